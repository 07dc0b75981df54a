package transcript

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"bulkhead"
)

// BundleFormat is the format member of a bundle.
const BundleFormat = "bulkhead ceremony bundle 1"

// maxObjects bounds what one bundle carries.
const maxObjects = 10_000

// bundle is the file: everything that leaves the room and is not secret.
type bundle struct {
	Format       string          `json:"format"`
	Rehearsal    bool            `json:"rehearsal,omitempty"`
	Plan         json.RawMessage `json:"plan"`
	Root         string          `json:"root"`       // PEM
	Transcript   string          `json:"transcript"` // byte for byte: the next one names its digest
	Objects      []string        `json:"objects"`    // PEM, in the order of the transcript
	Destructions []Destruction   `json:"destructions,omitempty"`
	FinishedAt   time.Time       `json:"finished_at"`
}

// Destruction is the statement that a key was destroyed, by the people who saw it. It is made after the transcript, whose
// key may be the one that is gone.
type Destruction struct {
	Authority  bulkhead.AuthorityID `json:"authority"`
	Key        bulkhead.Hash        `json:"key"` // SHA-256 of the SPKI
	KeyURI     string               `json:"key_uri"`
	At         time.Time            `json:"at"`
	Transcript bulkhead.Hash        `json:"transcript"` // SHA-256 of the signed transcript whose plan ordered it
	Notice     string               `json:"notice"`     // what the destruction cannot promise
	Witnesses  []Witness            `json:"witnesses"`
}

// Witness is one person's Ed25519 signature over Statement.
type Witness struct {
	PublicKey []byte `json:"public_key"`
	Signature []byte `json:"signature"`
}

// Statement is what witnesses sign: everything but their signatures.
func (d Destruction) Statement() ([]byte, error) {
	d.Witnesses = nil
	text, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("statement of destruction: %w", err)
	}
	return append([]byte("bulkhead key destruction 1\n"), text...), nil
}

// Verify checks the witnesses' signatures: two of different keys at least.
func (d Destruction) Verify() error {
	text, err := d.Statement()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, w := range d.Witnesses {
		if len(w.PublicKey) != ed25519.PublicKeySize || !ed25519.Verify(w.PublicKey, text, w.Signature) {
			return forged("a witness did not sign the statement that the key of %s was destroyed", d.Authority)
		}
		seen[string(w.PublicKey)] = true
	}
	if len(seen) < 2 {
		return forged("%d people witnessed that the key of %s was destroyed; it takes two", len(seen), d.Authority)
	}
	return nil
}

func forged(format string, args ...any) error {
	return bulkhead.Faultf(bulkhead.KindUnauthorized, format, args...).WithHint("take the bundle that the ceremony wrote, unedited")
}

// Contents is what goes into a bundle.
type Contents struct {
	Plan         []byte // compact JSON, whose digest the transcript has
	Root         []byte // DER
	Transcript   []byte // signed
	Objects      [][]byte
	Destructions []Destruction
	FinishedAt   time.Time
	Rehearsal    bool
}

// Write makes the file of a bundle.
func Write(c Contents) ([]byte, error) {
	b := bundle{Format: BundleFormat, Rehearsal: c.Rehearsal, Plan: c.Plan, Root: certificatePEM(c.Root), Transcript: string(c.Transcript),
		Objects: []string{}, Destructions: c.Destructions, FinishedAt: c.FinishedAt.UTC()}
	for _, der := range c.Objects {
		b.Objects = append(b.Objects, objectPEM(der))
	}
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return append(text, '\n'), nil
}

// Bundle is an opened bundle: everything in it was checked.
type Bundle struct {
	Plan         []byte // compact JSON
	Root         *x509.Certificate
	Transcript   *Transcript
	Signed       []byte                   // the transcript as signed
	Objects      map[bulkhead.Hash][]byte // DER of certificates and CRLs that the transcript names
	Destructions []Destruction
	FinishedAt   time.Time // what the room's clock said; not signed
}

// Open reads a bundle and checks it against the root that the caller trusts; nil takes the bundle's own root, which the
// caller must then judge by its digest. KindMalformed when it is no bundle; KindUnauthorized when anything in it was not
// signed, is missing, or was not named by the transcript.
func Open(text []byte, trusted *x509.Certificate) (*Bundle, error) {
	bad := func(err error) error {
		return bulkhead.NewFault(bulkhead.KindMalformed, "not a ceremony bundle").WithHint("give the file that bulkhead-root wrote").WithCause(err)
	}
	if len(text) > maxSize {
		return nil, bad(errors.New("too long"))
	}
	var b bundle
	if err := strictJSON(text, &b); err != nil {
		return nil, bad(err)
	}
	if b.Format != BundleFormat || len(b.Objects) > maxObjects {
		return nil, bad(fmt.Errorf("format %q with %d objects", b.Format, len(b.Objects)))
	}
	_, rootDER, err := onePEM(b.Root)
	if err != nil {
		return nil, bad(err)
	}
	root, err := x509.ParseCertificate(rootDER)
	if err != nil {
		return nil, bad(err)
	}
	if trusted == nil {
		trusted = root
	}
	var plan bytes.Buffer
	if err := json.Compact(&plan, b.Plan); err != nil {
		return nil, bad(err)
	}
	t, err := Verify([]byte(b.Transcript), trusted)
	if err != nil {
		return nil, err
	}
	if t.Plan != bulkhead.Digest(plan.Bytes()) {
		return nil, forged("the plan in the bundle is not the one of the transcript, which has SHA-256 %s", t.Plan)
	}
	if t.Rehearsal != b.Rehearsal || !bytes.Equal(root.Raw, trusted.Raw) {
		return nil, forged("the bundle's cover and its transcript disagree")
	}
	out := &Bundle{Plan: plan.Bytes(), Root: trusted, Transcript: t, Signed: []byte(b.Transcript), Objects: map[bulkhead.Hash][]byte{}, Destructions: b.Destructions, FinishedAt: b.FinishedAt}
	for _, text := range b.Objects {
		_, der, err := onePEM(text)
		if err != nil {
			return nil, bad(err)
		}
		out.Objects[bulkhead.Digest(der)] = der
	}
	return out, out.check()
}

// check holds objects and statements against the transcript.
func (b *Bundle) check() error {
	named := map[bulkhead.Hash]bool{}
	signers := map[bulkhead.AuthorityID]*x509.Certificate{}
	for _, e := range b.Transcript.Entries {
		for _, in := range e.Inputs {
			if c, err := x509.ParseCertificate(b.Objects[in.Digest]); in.What == "issuer" && err == nil {
				signers[e.Signer] = c
			}
		}
		for _, o := range e.Outputs {
			der, ok := b.Objects[o.Digest]
			if o.What == "order" { // a destruction leaves no object
				continue
			}
			if !ok {
				return forged("the transcript names a %s with SHA-256 %s, which is not in the bundle", o.What, o.Digest)
			}
			named[o.Digest] = true
			if err := b.object(e, o, der, signers); err != nil {
				return err
			}
		}
	}
	for digest := range b.Objects {
		if !named[digest] && digest != bulkhead.Digest(b.Root.Raw) && !b.issuer(digest) {
			return forged("the bundle holds an object with SHA-256 %s, which the transcript does not name", digest)
		}
	}
	for _, d := range b.Destructions {
		if d.Transcript != bulkhead.Digest(b.Signed) || !b.ordered(d) {
			return forged("the destruction of the key of %s was not ordered by this ceremony", d.Authority)
		}
		if err := d.Verify(); err != nil {
			return err
		}
	}
	return nil
}

// issuer says whether a digest is that of an issuer in the transcript: such certificates come along.
func (b *Bundle) issuer(digest bulkhead.Hash) bool {
	for _, e := range b.Transcript.Entries {
		for _, in := range e.Inputs {
			if in.Digest == digest && (in.What == "issuer" || in.What == "certificate") {
				return true
			}
		}
	}
	return false
}

func (b *Bundle) ordered(d Destruction) bool {
	for _, e := range b.Transcript.Entries {
		for _, o := range e.Outputs {
			if e.Kind == "destroy" && e.Authority == d.Authority && o.What == "order" && o.Digest == d.Key {
				return true
			}
		}
	}
	return false
}

// object verifies the signature of one object, when its signer's certificate is at hand; the signer that is the root of
// the transcript always is. What the signature cannot tell the caller's own record must: whose child it is.
func (b *Bundle) object(e Entry, o Item, der []byte, signers map[bulkhead.AuthorityID]*x509.Certificate) error {
	signer := signers[e.Signer]
	switch o.What {
	case "certificate":
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return forged("a certificate of step %d cannot be read", e.Step)
		}
		if e.Kind == "root" {
			signer, signers[e.Authority] = c, c
		}
		if signer == nil || c.CheckSignatureFrom(signer) != nil {
			return forged("a certificate of step %d was not signed by %s", e.Step, e.Signer)
		}
		if e.Kind == "issuing" {
			signers[e.Authority] = c
		}
	case "crl":
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return forged("a CRL of step %d cannot be read", e.Step)
		}
		if signer == nil || l.CheckSignatureFrom(signer) != nil {
			return forged("a CRL of step %d was not signed by %s", e.Step, e.Signer)
		}
	default:
		return forged("the transcript names an output %q, which this version does not know", o.What)
	}
	return nil
}

func onePEM(text string) (kind string, der []byte, err error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(bytes.TrimSpace(rest)) != 0 {
		return "", nil, errors.New("not one PEM block")
	}
	return block.Type, block.Bytes, nil
}

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func objectPEM(der []byte) string {
	if _, err := x509.ParseCertificate(der); err == nil {
		return certificatePEM(der)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}
