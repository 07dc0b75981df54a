package foreign

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
)

// noteKey writes a verifier key of C2SP signed-note without the help of what is tested.
func noteKey(name string, key []byte) string {
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	return name + "+" + hex.EncodeToString(sum[:4]) + "+" + base64.StdEncoding.EncodeToString(key)
}

// LogKey is the verifier key of a static-ct-api log in C2SP signed-note: type 0x05 with the log's id (RFC 6962 section 3.2).
func LogKey(origin string, spki []byte) string {
	id := sha256.Sum256(spki)
	return noteKey(origin, append([]byte{5}, id[:]...))
}
