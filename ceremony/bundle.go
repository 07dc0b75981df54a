package ceremony

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"bulkhead"
	"bulkhead/pki/transcript"
)

// issuers collects the certificates that a reader of the bundle needs besides what was made.
func (e *execution) issuers(root *house) {
	add := func(h *house) {
		if !slices.ContainsFunc(e.result.Issuers, func(der []byte) bool { return bytes.Equal(der, h.cert.Raw) }) {
			e.result.Issuers = append(e.result.Issuers, h.cert.Raw)
		}
	}
	add(root)
	for _, entry := range e.record.Entries {
		for _, id := range []bulkhead.AuthorityID{entry.Signer, entry.Authority} {
			if h := e.houses[id]; h != nil {
				add(h)
			}
		}
	}
}

// Bundle is the file to carry: plan, transcript, what was signed, and statements about keys that were destroyed.
func (r *Result) Bundle(plan Plan, destroyed []transcript.Destruction, finished time.Time, rehearsal bool) ([]byte, error) {
	text, err := json.Marshal(plan)
	if err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	objects := slices.Clone(r.Issuers)
	add := func(der []byte) {
		if !slices.ContainsFunc(objects, func(x []byte) bool { return bytes.Equal(x, der) }) {
			objects = append(objects, der)
		}
	}
	for _, c := range r.Certificates {
		add(c.DER)
	}
	for _, p := range r.Prepared {
		add(p.DER)
	}
	return transcript.Write(transcript.Contents{Plan: text, Root: r.Issuers[0], Transcript: r.Transcript, Objects: objects,
		Destructions: destroyed, FinishedAt: finished, Rehearsal: rehearsal})
}

// OpenBundle reads a bundle back into the plan and the result of the ceremony, all of it derived from signed bytes.
// trusted is the root's certificate as the caller knows it; nil for a root that the bundle itself brings.
func OpenBundle(text []byte, trusted *x509.Certificate) (*transcript.Bundle, Plan, *Result, error) {
	b, err := transcript.Open(text, trusted)
	if err != nil {
		return nil, Plan{}, nil, err
	}
	var plan Plan
	dec := json.NewDecoder(bytes.NewReader(b.Plan))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&plan); err != nil {
		return nil, Plan{}, nil, bulkhead.NewFault(bulkhead.KindMalformed, "the plan in the bundle cannot be read").WithHint("open it with the version that held the ceremony").WithCause(err)
	}
	if err := plan.Check(); err != nil {
		return nil, Plan{}, nil, err
	}
	r := &reader{b: b, plan: plan, houses: map[bulkhead.AuthorityID]*house{}}
	if len(b.Transcript.Entries) != len(plan.Steps) {
		return nil, Plan{}, nil, bulkhead.Faultf(bulkhead.KindMalformed, "the transcript has %d entries for %d steps", len(b.Transcript.Entries), len(plan.Steps)).WithHint("take the bundle that the ceremony wrote")
	}
	return b, plan, &r.result, r.read()
}

// reader rebuilds a result.
type reader struct {
	b      *transcript.Bundle
	plan   Plan
	houses map[bulkhead.AuthorityID]*house
	result Result
}

func (r *reader) read() error {
	for _, x := range r.plan.Existing {
		cert, err := x509.ParseCertificate(x.Certificate)
		if err != nil {
			return malformedCertificate(err)
		}
		h := &house{cert: cert, Authority: authorityOf(x.ID, x.Kind, cert)}
		for _, der := range x.Chain {
			h.Chain = append(h.Chain, der)
		}
		r.houses[x.ID] = h
	}
	r.result.Transcript = r.b.Signed
	for i, s := range r.plan.Steps {
		if err := r.step(s, r.b.Transcript.Entries[i]); err != nil {
			return inStep(i, s, err)
		}
	}
	return nil
}

func (r *reader) step(s Step, e Entry) error {
	signer := r.houses[e.Signer]
	for i, o := range e.Outputs {
		der := r.b.Objects[o.Digest]
		switch o.What {
		case "certificate":
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return malformedCertificate(err)
			}
			if err := r.certificate(s, e, i, signer, cert); err != nil {
				return err
			}
		case "crl":
			list, err := x509.ParseRevocationList(der)
			if err != nil {
				return bulkhead.NewFault(bulkhead.KindMalformed, "a CRL cannot be read").WithHint("take the bundle that the ceremony wrote").WithCause(err)
			}
			number, err := strconv.ParseInt(o.Detail, 10, 64)
			if err != nil || list.Number == nil || !list.Number.IsInt64() || list.Number.Int64() != number {
				return bulkhead.Faultf(bulkhead.KindMalformed, "a CRL has another number than %s", o.Detail).WithHint("take the bundle that the ceremony wrote")
			}
			r.result.Prepared = append(r.result.Prepared, bulkhead.Prepared{Authority: e.Authority, Kind: bulkhead.PreparedCRL, Change: r.plan.Change,
				NotBefore: list.ThisUpdate, NotAfter: list.NextUpdate, DER: der, CRLNumber: number})
		}
	}
	return nil
}

func (r *reader) certificate(s Step, e Entry, i int, signer *house, cert *x509.Certificate) error {
	x := &execution{start: e.At}
	switch {
	case s.Root != nil:
		h := &house{cert: cert, Authority: authorityOf(s.Root.ID, bulkhead.RootAuthority, cert)}
		h.CreatedAt, h.Shards = e.At, 1
		r.houses[s.Root.ID] = h
		r.result.Authorities = append(r.result.Authorities, h.Authority)
		return nil
	case signer == nil:
		return bulkhead.Faultf(bulkhead.KindMalformed, "the plan does not know the signer %s", e.Signer).WithHint("take the bundle that the ceremony wrote")
	case s.Issuing != nil:
		h := &house{cert: cert, Authority: authorityOf(s.Issuing.ID, s.Issuing.Kind, cert)}
		h.Parent, h.Chain, h.KeyURI, h.Shards, h.CreatedAt = signer.ID, signer.chain(), s.Issuing.Request.KeyURI, s.Issuing.Shards, e.At
		r.houses[s.Issuing.ID] = h
		r.result.Authorities = append(r.result.Authorities, h.Authority)
		x.issued(signer, cert, bulkhead.CACertificate, RoleIssuing)
	case s.Cross != nil:
		x.issued(signer, cert, bulkhead.CACertificate, RoleCross)
	case s.Standby != nil:
		x.issued(signer, cert, bulkhead.CACertificate, RoleCross)
		r.result.Standbys = append(r.result.Standbys, Standby{Authority: s.Standby.Subject, Certificate: cert.Raw, Chain: signer.chain()})
	case s.Delegate != nil && i < len(s.Delegate.Requests):
		x.issued(signer, cert, bulkhead.DelegateCertificate, RoleDelegate)
		r.result.Prepared = append(r.result.Prepared, bulkhead.Prepared{Authority: signer.ID, Kind: bulkhead.PreparedDelegate,
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, DER: cert.Raw, KeyURI: s.Delegate.Requests[i].KeyURI})
	}
	r.result.Certificates = append(r.result.Certificates, x.result.Certificates...)
	return nil
}
