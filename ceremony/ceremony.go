// Package ceremony uses root keys: it turns a reviewed plan into certificates, prepared status objects and a signed
// transcript. The offline tool and a first start share it.
//
// Invariant: what a root signs was seen before: every certificate is first made as a twin signed by a throw-away key,
// passes the gates and the lint as that twin, and the bytes then signed are the bytes that were seen. Nothing is
// returned unless everything succeeded; keys made on the way to a failure are destroyed.
//
// Refuses, before the root key is used: leaf certificates other than OCSP delegates; OCSPSigning or anyExtendedKeyUsage
// in an authority's certificate; a child that outlives its issuer or breaks its path length; weak keys and signatures;
// a CSR that does not prove its key; CRL numbers that do not grow; CRLs that live longer than 12 months.
package ceremony

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/pki/transcript"
)

// Config is what a ceremony needs besides its plan. All fields but PreviousTranscript are required.
type Config struct {
	Ring keys.Ring        // holds the root keys, and no other
	Now  func() time.Time // read once for the dates of everything signed, and once per step for the transcript
	Rand io.Reader        // serials, throw-away keys
	Who  []string         // the people in the room, for the transcript
	Lint *lint.Linter     // looks at the twin of every certificate and CRL; an error refuses it
	// PreviousTranscript is the signed transcript of the ceremony before this one under the same root; nil for the
	// first. CRL numbers must be above those in it.
	PreviousTranscript []byte
	// Rehearsal signs with throw-away keys under names that begin with REHEARSAL; Ring is then not used. See rehearse.
	Rehearsal bool
	Began     time.Time // when the people began, for the transcript; zero when nobody took the time
}

// Result is what leaves the room.
type Result struct {
	Authorities  []bulkhead.Authority         // made here, in the plan's order
	Certificates []bulkhead.IssuedCertificate // every certificate below a root, as rows for the store: children, cross-certificates, delegates
	Prepared     []bulkhead.Prepared          // CRLs and delegates with their successors, in the order of use
	Transcript   []byte                       // signed JSON, see VerifyTranscript
	Standbys     []Standby                    // among Certificates too
	Destroy      []Order                      // keys to destroy once the bundle is safe, in the plan's order; see DestroyKey
	Issuers      [][]byte                     // DER of existing authorities that signed or were signed here, the root first
}

// backdate of everything signed: for clocks that are behind; at most a day (BR 7.1.2.10.1, 7.1.2.8.1).
const backdate = time.Hour

// Execute carries out a plan. A plan that cannot be carried out is refused as a whole, with the step in the detail.
func Execute(ctx context.Context, c Config, plan Plan) (*Result, error) {
	if c.Rehearsal {
		c.Ring = keys.NewMemoryRing()
	}
	if c.Ring == nil || c.Now == nil || c.Rand == nil || c.Lint == nil || len(c.Who) == 0 {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "a ceremony needs a key ring, a clock, a random source, a linter and the names of those present").
			WithHint("name the people in the room: they stand in the transcript")
	}
	if err := plan.Check(); err != nil {
		return nil, err
	}
	e := &execution{Config: c, ctx: ctx, plan: plan, urls: profile.URLs{Base: plan.StatusURL}, start: c.Now().UTC().Truncate(time.Second),
		houses: make(map[bulkhead.AuthorityID]*house)}
	result, err := e.run()
	if err != nil {
		return nil, errors.Join(err, e.destroyKeys())
	}
	return result, nil
}

// execution is one run of one plan; nothing survives it but its result.
type execution struct {
	Config
	ctx    context.Context // of Execute, for the key ring
	plan   Plan
	urls   profile.URLs
	start  time.Time
	houses map[bulkhead.AuthorityID]*house
	// earlier are the highest CRL numbers of the ceremonies before.
	earlier map[bulkhead.AuthorityID]int64
	made    []string // URIs of keys generated here
	twins   map[string]crypto.Signer
	record  Transcript
	result  Result
}

// house is an authority that the ceremony knows.
type house struct {
	bulkhead.Authority
	cert   *x509.Certificate
	signer crypto.Signer // nil when the key is not in the ring
}

func (e *execution) run() (*Result, error) {
	previous, err := e.begin()
	if err != nil {
		return nil, err
	}
	e.record.CRLNumbers = make(map[bulkhead.AuthorityID]int64)
	if previous != nil {
		e.earlier = previous.CRLNumbers
		maps.Copy(e.record.CRLNumbers, previous.CRLNumbers)
	}
	for _, x := range e.plan.Existing {
		if err := e.admit(x); err != nil {
			return nil, err
		}
	}
	steps := e.plan.Steps
	if e.Rehearsal {
		steps = rehearsed(steps)
	}
	for i, s := range steps {
		entry, err := e.step(s)
		if err != nil {
			return nil, inStep(i, s, err)
		}
		entry.Step, entry.At = i+1, e.Now().UTC()
		e.record.Entries = append(e.record.Entries, entry)
	}
	root := e.houses[e.plan.Root]
	e.record.Root = bulkhead.Digest(root.cert.Raw)
	e.issuers(root)
	signed, err := e.record.Sign(root.signer, e.Rand)
	if err != nil {
		return nil, err
	}
	e.result.Transcript = signed
	if _, err := VerifyTranscript(signed, root.cert); err != nil {
		return nil, fmt.Errorf("ceremony: transcript does not verify after signing: %w", err)
	}
	return &e.result, nil
}

// begin opens the record and verifies the one before it, against the root of the plan.
func (e *execution) begin() (*Transcript, error) {
	e.record = Transcript{Format: transcript.Format, Rehearsal: e.Rehearsal, Title: e.plan.Title, Who: e.Who, BeganAt: e.Began.UTC(), StartedAt: e.start, Plan: e.plan.Digest()}
	if e.PreviousTranscript == nil {
		return nil, nil
	}
	for _, x := range e.plan.Existing {
		if x.ID != e.plan.Root {
			continue
		}
		root, err := x509.ParseCertificate(x.Certificate)
		if err != nil {
			return nil, malformedCertificate(err)
		}
		e.record.Previous = bulkhead.Digest(e.PreviousTranscript)
		return VerifyTranscript(e.PreviousTranscript, root)
	}
	return nil, bulkhead.NewFault(bulkhead.KindConflict, "a previous transcript is given, but the plan makes a new root").
		WithHint("name the root under existing")
}

func (e *execution) admit(x Existing) error {
	cert, err := x509.ParseCertificate(x.Certificate)
	if err != nil {
		return malformedCertificate(err)
	}
	h := &house{cert: cert, Authority: bulkhead.Authority{
		ID: x.ID, Kind: x.Kind, State: bulkhead.AuthorityActive, Subject: cert.RawSubject, SPKI: cert.RawSubjectPublicKeyInfo,
		Certificate: cert.Raw, KeyURI: x.KeyURI,
	}}
	for _, der := range x.Chain {
		h.Chain = append(h.Chain, der)
	}
	if e.Rehearsal && (x.KeyURI != "" || x.ID == e.plan.Root) {
		if h, err = e.standIn(h); err != nil {
			return err
		}
		e.houses[x.ID] = h
		return nil
	}
	if x.KeyURI != "" {
		if h.signer, err = e.Ring.Open(e.ctx, x.KeyURI); err != nil {
			return err
		}
		if !sameKey(h.signer.Public(), cert.PublicKey) {
			return bulkhead.Faultf(bulkhead.KindConflict, "key %s does not belong to the certificate of %s", x.KeyURI, x.ID).WithHint("check key_uri in the plan")
		}
	}
	e.houses[x.ID] = h
	return nil
}

func (e *execution) step(s Step) (Entry, error) {
	switch {
	case s.Root != nil:
		return e.makeRoot(*s.Root)
	case s.Issuing != nil:
		return e.makeIssuing(*s.Issuing)
	case s.Cross != nil:
		return e.makeCross(*s.Cross)
	case s.Standby != nil:
		return e.makeStandby(*s.Standby)
	case s.Destroy != nil:
		return e.orderDestruction(*s.Destroy)
	case s.Delegate != nil:
		return e.makeDelegates(*s.Delegate)
	default:
		return e.makeCRLs(*s.CRL)
	}
}

// parent is an authority whose key is in the room.
func (e *execution) parent(id bulkhead.AuthorityID) (*house, error) {
	h := e.houses[id]
	if h.signer == nil {
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "the key of %s is not in this ceremony's ring", id).WithHint("set key_uri of the existing authority, and bring its key")
	}
	return h, nil
}

// destroyKeys takes back the keys of a ceremony that failed: nothing that they signed has left.
func (e *execution) destroyKeys() error {
	var errs []error
	for _, uri := range e.made {
		errs = append(errs, e.Ring.Destroy(context.WithoutCancel(e.ctx), uri))
	}
	return errors.Join(errs...)
}

func (e *execution) serial() (bulkhead.Serial, error) {
	p := make([]byte, 16)
	for p[0] < 1 || p[0] > 0x7f { // 16 octets without a sign octet: over 120 random bits (BR 7.1 asks for 64)
		if _, err := io.ReadFull(e.Rand, p); err != nil {
			return bulkhead.Serial{}, fmt.Errorf("ceremony: serial: %w", err)
		}
	}
	return bulkhead.SerialFromBytes(p)
}

func inStep(i int, s Step, err error) error {
	f := bulkhead.AsFault(err)
	if f.Kind == bulkhead.KindInternal {
		return fmt.Errorf("step %d (%s): %w", i+1, s.name(), err)
	}
	out := *f
	out.Detail = fmt.Sprintf("step %d (%s): %s", i+1, s.name(), f.Detail)
	return &out
}

func malformedCertificate(err error) error {
	return bulkhead.NewFault(bulkhead.KindMalformed, "certificate is not readable").WithHint("give the certificate as PEM").WithCause(err)
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
