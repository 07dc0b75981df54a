package sct

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
)

// logVerifier checks the checkpoints of a static-ct-api log.
type logVerifier struct {
	name string
	hash uint32
	key  crypto.PublicKey
}

// NewLogVerifier checks the checkpoints of a tiled log: origin is its submission prefix without scheme and final slash, key
// its DER SubjectPublicKeyInfo. KindMalformed for a key that cannot be read.
func NewLogVerifier(origin string, key []byte) (note.Verifier, error) {
	pub, err := x509.ParsePKIXPublicKey(key)
	if err != nil || origin == "" || strings.ContainsAny(origin, "+ \t\r\n") {
		return nil, malformed("log %.100q has no readable name or key", origin)
	}
	id := sha256.Sum256(key)
	sum := sha256.Sum256(append([]byte(origin+"\n\x05"), id[:]...)) // type of a signature over a tree head
	return &logVerifier{name: origin, hash: binary.BigEndian.Uint32(sum[:]), key: pub}, nil
}

// Name implements note.Verifier.
func (v *logVerifier) Name() string { return v.name }

// KeyHash implements note.Verifier.
func (v *logVerifier) KeyHash() uint32 { return v.hash }

// Verify implements note.Verifier: sig is a time in milliseconds and the DigitallySigned of a TreeHeadSignature (RFC 6962
// section 3.5) over the size and root of the body.
func (v *logVerifier) Verify(body, sig []byte) bool {
	lines := strings.Split(string(body), "\n")
	if len(lines) != 4 || lines[0] != v.name || lines[3] != "" {
		return false
	}
	size, err1 := strconv.ParseUint(lines[1], 10, 63)
	root, err2 := base64.StdEncoding.Strict().DecodeString(lines[2])
	in := cryptobyte.String(sig)
	var at uint64
	var hash, alg uint8
	var signature cryptobyte.String
	if err1 != nil || err2 != nil || len(root) != sha256.Size || !in.ReadUint64(&at) || !in.ReadUint8(&hash) || !in.ReadUint8(&alg) ||
		!in.ReadUint16LengthPrefixed(&signature) || !in.Empty() || hash != hashSHA256 {
		return false
	}
	head := binary.BigEndian.AppendUint64([]byte{0, 1}, at) // v1, tree_hash
	head = append(binary.BigEndian.AppendUint64(head, size), root...)
	digest := sha256.Sum256(head)
	switch k := v.key.(type) {
	case *ecdsa.PublicKey:
		return alg == sigECDSA && ecdsa.VerifyASN1(k, digest[:], signature)
	case *rsa.PublicKey:
		return alg == sigRSA && rsa.VerifyPKCS1v15(k, crypto.SHA256, digest[:], signature) == nil
	}
	return false
}

// Entry is one leaf of a tiled log. Its slices point into the bundle that it was read from.
type Entry struct {
	Leaf        []byte        // MerkleTreeLeaf (RFC 6962 section 3.4), whose hash stands in the tree
	Certificate []byte        // DER of the certificate, or of the precertificate
	Precert     bool          // Certificate is a precertificate
	IssuerKey   bulkhead.Hash // of a precertificate: SHA-256 of its issuer's SubjectPublicKeyInfo
}

// ReadEntries reads the first n leaves of a data tile (static-ct-api, "Entry bundles").
func ReadEntries(bundle []byte, n int) ([]Entry, error) {
	in := cryptobyte.String(bundle)
	out := make([]Entry, 0, n)
	for i := range n {
		e, err := readEntry(&in)
		if err != nil {
			return nil, fmt.Errorf("leaf %d of the tile: %w", i, err)
		}
		out = append(out, e)
	}
	return out, nil
}

func readEntry(in *cryptobyte.String) (e Entry, err error) {
	cut := malformed("the data tile ends within a leaf, or holds what is no leaf")
	start := []byte(*in)
	var kind uint16
	var certificate, extensions, chain cryptobyte.String
	var issuer []byte
	if !in.Skip(8) || !in.ReadUint16(&kind) || kind > 1 || kind == 1 && !in.ReadBytes(&issuer, sha256.Size) ||
		!in.ReadUint24LengthPrefixed(&certificate) || certificate.Empty() || !in.ReadUint16LengthPrefixed(&extensions) {
		return e, cut
	}
	timestamped := start[:len(start)-len(*in)]
	e.Leaf = append([]byte{0, 0}, timestamped...) // v1, timestamped_entry
	e.Certificate = certificate
	if kind == 1 {
		e.Precert, e.IssuerKey = true, bulkhead.Hash(issuer)
		if !in.ReadUint24LengthPrefixed(&certificate) || certificate.Empty() {
			return e, cut
		}
		e.Certificate = certificate
	}
	if !in.ReadUint16LengthPrefixed(&chain) || len(chain)%sha256.Size != 0 {
		return e, cut
	}
	return e, nil
}

// SameTBS reports whether the TBSCertificate that a log signed for a precertificate entry is that of the precertificate that
// the entry shows: a log that shows another one hides what it took.
func (e Entry) SameTBS() bool {
	if !e.Precert {
		return true
	}
	in := cryptobyte.String(e.Leaf[2+8+2+sha256.Size:])
	var signed cryptobyte.String
	cert, err := x509.ParseCertificate(e.Certificate)
	if err != nil || !in.ReadUint24LengthPrefixed(&signed) {
		return false
	}
	bare, poisoned, err := Bare(cert.RawTBSCertificate)
	return err == nil && poisoned && bytes.Equal(bare, signed)
}
