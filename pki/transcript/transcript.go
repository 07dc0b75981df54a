// Package transcript is what a ceremony leaves, in the form in which it is carried: the signed transcript, and the
// bundle of plan, transcript and signed objects.
//
// Purpose: writers and a stranger's verifier share one reading of the files. Invariant: whatever Open returns was signed
// by the root that the caller trusts or stands, by its digest, in a transcript that was; an object that the transcript
// does not name, or one that it names and the bundle lacks, is a refusal.
//
// Refuses: another root's signature, an edited file, a plan other than the one that was read aloud, objects that their
// issuer in the bundle did not sign, fields that it does not know.
package transcript

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"bulkhead"
)

const (
	// Format is the first line of what is signed, and the format member of a transcript.
	Format = "bulkhead ceremony transcript 1"
	// maxSize is far above what a ceremony can fill.
	maxSize = 16 << 20
)

// Transcript is what a ceremony leaves: who did what when, with digests of everything that went in and came out.
type Transcript struct {
	Format string `json:"format"`
	// Rehearsal says that throw-away keys signed: nothing here is of use but the time that it took.
	Rehearsal bool          `json:"rehearsal,omitempty"`
	Title     string        `json:"title"`
	Who       []string      `json:"who"`
	BeganAt   time.Time     `json:"began_at,omitzero"` // when the people began, as they say; the machine's part is StartedAt
	StartedAt time.Time     `json:"started_at"`
	Plan      bulkhead.Hash `json:"plan"`     // SHA-256 of the plan's compact JSON
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
func signed(compact []byte) []byte { return append([]byte(Format+"\n"), compact...) }

// Sign signs the transcript with the root's key.
func (t *Transcript) Sign(signer crypto.Signer, random io.Reader) ([]byte, error) {
	if signer == nil {
		return nil, bulkhead.NewFault(bulkhead.KindConflict, "the root that signs the transcript has no key in this ring").WithHint("set key_uri of the root under existing")
	}
	compact, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("transcript: %w", err)
	}
	hash := hashOf(signer.Public())
	h := hash.New()
	h.Write(signed(compact))
	sig, err := signer.Sign(random, h.Sum(nil), hash)
	if err != nil {
		return nil, fmt.Errorf("sign transcript: %w", err)
	}
	out, err := json.Marshal(envelope{Transcript: compact, Algorithm: algorithm(signer.Public()), Signature: sig})
	if err != nil {
		return nil, fmt.Errorf("transcript: %w", err)
	}
	return append(out, '\n'), nil
}

// Verify checks a transcript against the root that signed it and returns its contents. White space between JSON tokens
// does not matter. KindMalformed when it is no transcript; KindUnauthorized when it is of another root or was changed.
func Verify(text []byte, root *x509.Certificate) (*Transcript, error) {
	bad := func(err error) error {
		return bulkhead.NewFault(bulkhead.KindMalformed, "not a ceremony transcript").WithHint("give the file that the ceremony wrote").WithCause(err)
	}
	if len(text) > maxSize {
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
	if t.Format != Format {
		return nil, bad(fmt.Errorf("format %q", t.Format))
	}
	if root == nil || env.Algorithm != algorithm(root.PublicKey) || !verify(root.PublicKey, signed(compact.Bytes()), env.Signature) {
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

func hashOf(pub crypto.PublicKey) crypto.Hash {
	if k, ok := pub.(*ecdsa.PublicKey); ok && k.Params().BitSize > 256 {
		return crypto.SHA384
	}
	return crypto.SHA256
}

// algorithm is the name of the signature algorithm of a root's key; "" for a key that no root has.
func algorithm(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return x509.SHA256WithRSA.String()
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return x509.ECDSAWithSHA256.String()
		case elliptic.P384():
			return x509.ECDSAWithSHA384.String()
		}
	}
	return ""
}

func verify(pub crypto.PublicKey, message, sig []byte) bool {
	hash := hashOf(pub)
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
