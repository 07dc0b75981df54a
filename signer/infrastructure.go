package signer

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
)

// infraBackdate is for clocks of the house's own machines that are behind.
const infraBackdate = time.Hour

// IssueInfrastructure certifies one of the house's own listeners or roles under the active infrastructure authority:
// no order, because the house vouches for itself, and otherwise the same checks, token and evidence. csr is DER PKCS #10
// for no names but those given. KindNotFound when there is no infrastructure authority.
func (s *Signer) IssueInfrastructure(ctx context.Context, names []bulkhead.Identifier, csr []byte) (bulkhead.IssuedCertificate, error) {
	none := bulkhead.IssuedCertificate{}
	leave, err := s.enter()
	if err != nil {
		return none, err
	}
	defer leave()
	a, err := s.infrastructure(ctx)
	if err != nil {
		return none, err
	}
	names = slices.Clone(names)
	for i, n := range names {
		if err := n.Check(); err != nil {
			return none, err
		}
		if slices.Contains(names[:i], n) {
			return none, bulkhead.Faultf(bulkhead.KindMalformed, "name %s asked for twice", n).WithHint("leave one of them out")
		}
	}
	if len(names) == 0 {
		return none, bulkhead.NewFault(bulkhead.KindMalformed, "no names asked for").WithHint("name the listener")
	}
	if err := profile.CheckConstraints(names, a.above); err != nil {
		return none, err
	}
	parsed, err := s.parseCSR(csr, names)
	if err != nil {
		return none, err
	}
	if err := s.judgeKey(parsed.PublicKey, parsed.RawSubjectPublicKeyInfo, a, s.rules); err != nil {
		return none, err
	}
	d := &draft{authority: a, kind: bulkhead.InfraCertificate, profile: "infrastructure", names: names, pub: parsed.PublicKey, spki: parsed.RawSubjectPublicKeyInfo,
		actor: s.cfg.Actor, set: lint.SetInfrastructure, mandate: mandate{subject: bulkhead.StopSubject{Issuer: a.ID}}}
	d.template = func(serial bulkhead.Serial, now time.Time, shard int) (*x509.Certificate, error) {
		return profile.Infrastructure(profile.Input{Issuer: a.cert, IssuerID: a.ID, Names: names, PublicKey: d.pub, Serial: serial, Now: now,
			Shard: shard, URLs: s.cfg.URLs}, s.cfg.InfraValidity, infraBackdate)
	}
	token, err := s.reserve(ctx, d)
	if err != nil {
		return none, err
	}
	return s.Sign(ctx, token)
}

// infrastructure is the newest infrastructure authority that may issue.
func (s *Signer) infrastructure(ctx context.Context) (*authority, error) {
	all, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var best *bulkhead.Authority
	for i, a := range all {
		if a.Kind == bulkhead.InfrastructureAuthority && a.CanIssue() && (best == nil || a.CreatedAt.After(best.CreatedAt)) {
			best = &all[i]
		}
	}
	if best == nil {
		return nil, bulkhead.NewFault(bulkhead.KindNotFound, "there is no infrastructure authority that may issue").WithHint("make one: bulkhead hierarchy add")
	}
	a, err := s.known(ctx, *best)
	if err != nil {
		return nil, err
	}
	return a, a.mayIssue(bulkhead.InfrastructureAuthority)
}
