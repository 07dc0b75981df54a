package ceremony

import (
	"crypto/x509"
	"encoding/json"
	"strconv"

	"bulkhead"
	"bulkhead/pki/transcript"
)

// Transcript, Entry and Item are the forms in which a ceremony is recorded and carried.
type (
	Transcript = transcript.Transcript
	Entry      = transcript.Entry
	Item       = transcript.Item
)

// VerifyTranscript checks a transcript against the root that signed it; see transcript.Verify.
func VerifyTranscript(text []byte, root *x509.Certificate) (*Transcript, error) {
	return transcript.Verify(text, root)
}

func revokedItem(revoked []RevokedChild) Item {
	text, err := json.Marshal(revoked)
	if err != nil {
		panic(err) // Plan.Check saw that JSON can hold it
	}
	return Item{What: "revoked", Digest: bulkhead.Digest(text), Detail: strconv.Itoa(len(revoked)) + " entries"}
}
