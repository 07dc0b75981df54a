package ceremony

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"bulkhead"
)

const (
	transcriptFormat = "bulkhead ceremony transcript 1"
	// maxTranscript is far above what maxObjects per step can fill.
	maxTranscript = 16 << 20
)

// Transcript is what a ceremony leaves: who did what when, with digests of everything that went in and came out.
type Transcript struct {
	Format    string        `json:"format"`
	Title     string        `json:"title"`
	Who       []string      `json:"who"`
	StartedAt time.Time     `json:"started_at"`
	Plan      bulkhead.Hash `json:"plan"`     // Plan.Digest
	Previous  bulkhead.Hash `json:"previous"` // SHA-256 of the signed transcript before this one
	Root      bulkhead.Hash `json:"root"`     // SHA-256 of the certificate whose key signs
	Entries   []Entry       `json:"entries"`
	// CRLNumbers are the highest numbers ever signed, by authority, this ceremony included: each transcript carries on
	// what the one before it says.
	CRLNumbers map[bulkhead.AuthorityID]int64 `json:"crl_numbers"`
}

// Entry is one step as carried out.
type Entry struct {
	Step      int                  `json:"step"`
	Kind      string               `json:"kind"`
	At        time.Time            `json:"at"`
	Authority bulkhead.AuthorityID `json:"authority"`
	Signer    bulkhead.AuthorityID `json:"signer"`
	Inputs    []Item               `json:"inputs"`
	Outputs   []Item               `json:"outputs"`
}

// Item is one thing that went in or came out.
type Item struct {
	What   string        `json:"what"`   // key, csr, certificate, issuer, revoked, crl
	Digest bulkhead.Hash `json:"digest"` // SHA-256 of the DER; of the SPKI for a key
	Detail string        `json:"detail"` // key URI, serial and end, or CRL number
}

// envelope is the file: the signature is over the format line and the compact JSON of the transcript.
type envelope struct {
	Transcript json.RawMessage `json:"transcript"`
	Algorithm  string          `json:"algorithm"`
	Signature  []byte          `json:"signature"`
}

// signed is what the root key signs. The text before the JSON keeps it apart from every DER structure.
func signed(compact []byte) []byte { return append([]byte(transcriptFormat+"\n"), compact...) }

func (t *Transcript) sign(signer crypto.Signer, random io.Reader) ([]byte, error) {
	if signer == nil {
		return nil, bulkhead.NewFault(bulkhead.KindConflict, "the root that signs the transcript has no key in this ring").WithHint("set key_uri of the root under existing")
	}
	compact, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("ceremony: transcript: %w", err)
	}
	hash := transcriptHash(signer.Public())
	h := hash.New()
	h.Write(signed(compact))
	sig, err := signer.Sign(random, h.Sum(nil), hash)
	if err != nil {
		return nil, fmt.Errorf("ceremony: sign transcript: %w", err)
	}
	out, err := json.Marshal(envelope{Transcript: compact, Algorithm: algorithmName(signer.Public()), Signature: sig})
	if err != nil {
		return nil, fmt.Errorf("ceremony: transcript: %w", err)
	}
	return append(out, '\n'), nil
}

// VerifyTranscript checks a transcript against the root that signed it and returns its contents. White space between
// JSON tokens does not matter. KindMalformed when it is no transcript; KindUnauthorized when it is of another root or
// was changed.
func VerifyTranscript(text []byte, root *x509.Certificate) (*Transcript, error) {
	bad := func(err error) error {
		return bulkhead.NewFault(bulkhead.KindMalformed, "not a ceremony transcript").WithHint("give the file that the ceremony wrote").WithCause(err)
	}
	if len(text) > maxTranscript {
		return nil, bad(errors.New("too long"))
	}
	var env envelope
	if err := strictJSON(text, &env); err != nil {
		return nil, bad(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, env.Transcript); err != nil {
		return nil, bad(err)
	}
	var t Transcript
	if err := strictJSON(compact.Bytes(), &t); err != nil {
		return nil, bad(err)
	}
	if t.Format != transcriptFormat {
		return nil, bad(fmt.Errorf("format %q", t.Format))
	}
	if root == nil || env.Algorithm != algorithmName(root.PublicKey) || !verify(root.PublicKey, signed(compact.Bytes()), env.Signature) {
		return nil, bulkhead.NewFault(bulkhead.KindUnauthorized, "the transcript's signature is not by this root").
			WithHint("check that root certificate and transcript belong together, and that the file was not edited")
	}
	if t.Root != bulkhead.Digest(root.Raw) {
		return nil, bulkhead.NewFault(bulkhead.KindUnauthorized, "the transcript names another certificate of this root's key").WithHint("give the root certificate with SHA-256 " + t.Root.String())
	}
	return &t, nil
}

func strictJSON(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the document")
	}
	return nil
}

func transcriptHash(pub crypto.PublicKey) crypto.Hash {
	if k, ok := pub.(*ecdsa.PublicKey); ok && k.Params().BitSize > 256 {
		return crypto.SHA384
	}
	return crypto.SHA256
}

func algorithmName(pub crypto.PublicKey) string {
	alg, err := signatureAlgorithm(pub)
	if err != nil {
		return ""
	}
	return alg.String()
}

func verify(pub crypto.PublicKey, message, sig []byte) bool {
	hash := transcriptHash(pub)
	h := hash.New()
	h.Write(message)
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, h.Sum(nil), sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, hash, h.Sum(nil), sig) == nil
	}
	return false
}

func revokedItem(revoked []RevokedChild) Item {
	text, err := json.Marshal(revoked)
	if err != nil {
		panic(err) // Plan.Check saw that JSON can hold it
	}
	return Item{"revoked", bulkhead.Digest(text), strconv.Itoa(len(revoked)) + " entries"}
}
