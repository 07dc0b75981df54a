package ceremony

import (
	"context"
	"crypto/x509"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/transcript"
)

// DestroyStep orders the destruction of an authority's key at the end of the ceremony. The authority must owe nothing
// afterwards: every certificate below it that has not ended is covered by CRLs that are signed before, in this ceremony.
type DestroyStep struct {
	Authority bulkhead.AuthorityID `json:"authority" yaml:"authority"`
	Why       string               `json:"why" yaml:"why"` // for the record
	// ChildrenUntil is the end of the last certificate below the authority; leave it out when all have ended.
	ChildrenUntil time.Time `json:"children_until,omitzero" yaml:"children_until,omitempty"`
}

// Order is a key that the plan ordered to be destroyed.
type Order struct {
	Authority bulkhead.AuthorityID
	Key       bulkhead.Hash // SHA-256 of the SPKI
	KeyURI    string
}

func (s DestroyStep) check(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind) error {
	if err := checkKnown(known, s.Authority); err != nil {
		return err
	}
	if s.Why == "" || len(s.Why) > 500 {
		return refused("the destruction of a key needs a reason of at most 500 characters").WithHint("why: for the record")
	}
	if _, err := s.ChildrenUntil.MarshalText(); err != nil {
		return refused("children_until is a date that does not exist").WithHint("children_until: 2027-11-21T12:00:00Z")
	}
	return nil
}

// checkDestructions: a key is ordered destroyed once, and signs nothing after that.
func (p Plan) checkDestructions() error {
	gone := map[bulkhead.AuthorityID]bool{}
	for i, s := range p.Steps {
		for _, used := range s.signers() {
			if gone[used] {
				return inStep(i, s, refused("the key of %s is destroyed in an earlier step", used).WithHint("put destroy steps last"))
			}
		}
		if s.Destroy != nil {
			gone[s.Destroy.Authority] = true
		}
	}
	return nil
}

// signers are the authorities whose keys a step uses.
func (s Step) signers() []bulkhead.AuthorityID {
	switch {
	case s.Issuing != nil:
		return []bulkhead.AuthorityID{s.Issuing.Parent}
	case s.Cross != nil:
		return []bulkhead.AuthorityID{s.Cross.Parent}
	case s.Standby != nil:
		return []bulkhead.AuthorityID{s.Standby.Parent}
	case s.Delegate != nil:
		return []bulkhead.AuthorityID{s.Delegate.Authority}
	case s.CRL != nil:
		return []bulkhead.AuthorityID{s.CRL.Authority}
	case s.Destroy != nil:
		return []bulkhead.AuthorityID{s.Destroy.Authority}
	}
	return nil
}

// orderDestruction checks that nothing is owed afterwards. The key itself is destroyed by DestroyKey, once the bundle
// with all that it signed is safe.
func (e *execution) orderDestruction(s DestroyStep) (Entry, error) {
	h, err := e.parent(s.Authority)
	if err != nil {
		return Entry{}, err
	}
	if h.KeyURI == "" {
		return Entry{}, refused("the key of %s was made in this ceremony", s.Authority).WithHint("leave both steps out")
	}
	last := s.ChildrenUntil
	for _, other := range e.houses {
		if other.cert != h.cert && other.cert.CheckSignatureFrom(h.cert) == nil && other.cert.NotAfter.After(last) {
			last = other.cert.NotAfter
		}
	}
	var covered time.Time
	for _, p := range e.result.Prepared {
		if p.Authority == s.Authority && p.Kind == bulkhead.PreparedCRL && p.NotAfter.After(covered) {
			covered = p.NotAfter
		}
	}
	if last.After(e.start) && covered.Before(last) {
		return Entry{}, refused("%s would owe CRLs until %s, and those signed here end at %s", s.Authority, last.UTC().Format(time.RFC3339), orNever(covered)).
			WithHint("put a crl step with a horizon beyond that date before the destroy step")
	}
	uri := h.KeyURI
	e.result.Destroy = append(e.result.Destroy, Order{Authority: s.Authority, Key: keyHash(h.cert), KeyURI: uri})
	return Entry{
		Kind: "destroy", Authority: s.Authority, Signer: e.plan.Root,
		Inputs:  []Item{{What: "key", Digest: keyHash(h.cert), Detail: uri}},
		Outputs: []Item{{What: "order", Digest: keyHash(h.cert), Detail: s.Why}},
	}, nil
}

func orNever(t time.Time) string {
	if t.IsZero() {
		return "no time: there are none"
	}
	return t.UTC().Format(time.RFC3339)
}

// DestroyKey destroys a key that the ceremony ordered destroyed and returns the statement that witnesses sign. Call it
// when the bundle is on disk.
func DestroyKey(ctx context.Context, ring keys.Ring, o Order, signedTranscript []byte, now time.Time) (transcript.Destruction, error) {
	s, err := ring.Open(ctx, o.KeyURI)
	if err != nil {
		return transcript.Destruction{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(s.Public())
	if err != nil || bulkhead.Digest(spki) != o.Key {
		return transcript.Destruction{}, bulkhead.Faultf(bulkhead.KindConflict, "the key at %s is not the one of the plan; it stays", o.KeyURI).WithHint("check key_uri in the plan").WithCause(err)
	}
	if err := ring.Destroy(ctx, o.KeyURI); err != nil {
		return transcript.Destruction{}, err
	}
	return transcript.Destruction{Authority: o.Authority, Key: o.Key, KeyURI: o.KeyURI, At: now.UTC().Truncate(time.Second),
		Transcript: bulkhead.Digest(signedTranscript), Notice: keys.NoticeOf(o.KeyURI)}, nil
}

// DestroysKeys reports whether a step orders the destruction of a key.
func (p Plan) DestroysKeys() bool {
	for _, s := range p.Steps {
		if s.Destroy != nil {
			return true
		}
	}
	return false
}

// MakesRoot reports whether the root that signs the transcript is made by the plan.
func (p Plan) MakesRoot() bool {
	for _, s := range p.Steps {
		if s.Root != nil && s.Root.ID == p.Root {
			return true
		}
	}
	return false
}
