package run

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bulkhead"
)

func loadSeed(dir string) (seed, error) {
	var s seed
	body, err := os.ReadFile(filepath.Join(dir, seedFile))
	if err != nil {
		return s, fmt.Errorf("reading the seed: %w", err)
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("reading the seed: %w", err)
	}
	return s, nil
}

// plantAll plants where all roles are in one process: the users of the roles may not.
func (h *House) plantAll(ctx context.Context, s seed) error {
	if !h.roles.all() {
		return nil
	}
	return h.plant(ctx, s)
}

// plant puts into the store what the first ceremony made and the store does not hold yet. Running it again changes
// nothing: each piece is looked up, or refuses a second time by itself.
func (h *House) plant(ctx context.Context, s seed) error {
	now := h.now().UTC()
	have, err := h.store.Authorities(ctx)
	if err != nil {
		return err
	}
	known := map[bulkhead.AuthorityID]bool{}
	for _, a := range have {
		known[a.ID] = true
	}
	ops, err := h.store.Operators(ctx)
	if err != nil {
		return err
	}
	if len(ops) > 0 && len(have) >= len(s.Authorities) {
		return nil // operators go in last: all before them is there
	}
	if len(ops) == 0 {
		if err := keepFirstProfiles(h.dir); err != nil {
			return err
		}
	}
	for _, a := range s.Authorities {
		if known[a.ID] {
			continue
		}
		a.CreatedAt = now
		ev := bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: now, Actor: "role:first-start", Authority: a.ID, Ref: "ceremony/0001.json",
			KeyHash: bulkhead.Digest(a.SPKI), Digest: bulkhead.Digest(a.Certificate), Link: s.Transcript, Detail: "made by the first ceremony"}
		if err := h.store.PutAuthority(ctx, a, ev); err != nil {
			return err
		}
	}
	for _, c := range s.Certificates {
		if err := h.plantCertificate(ctx, "role:first-start", c, s.Transcript, now); err != nil {
			return err
		}
	}
	if err := h.plantPrepared(ctx, s.Prepared, now); err != nil {
		return err
	}
	return h.quorum.Bootstrap(ctx, s.Operators...)
}

// plantCertificate records a certificate that a ceremony signed: its intent and outcome refer to the transcript.
func (h *House) plantCertificate(ctx context.Context, actor string, c bulkhead.IssuedCertificate, transcript bulkhead.Hash, now time.Time) error {
	cert, err := x509.ParseCertificate(c.DER)
	if err != nil {
		return fmt.Errorf("ceremony certificate: %w", err)
	}
	signer := bulkhead.Hash{}
	if len(c.Chain) > 0 {
		if parent, err := x509.ParseCertificate(c.Chain[0]); err == nil {
			signer = bulkhead.Digest(parent.RawSubjectPublicKeyInfo)
		}
	}
	row := c.Certificate
	row.State, row.Fingerprint, row.ReservedAt = bulkhead.Reserved, bulkhead.Hash{}, now
	leaf := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: now, Actor: actor, Authority: row.Issuer, Serial: row.Serial, Ref: "ceremony " + transcript.String()[:16],
		KeyHash: row.KeyHash, Signer: signer, Digest: bulkhead.Digest(cert.RawTBSCertificate), Detail: "signed in a ceremony: " + row.Subject}
	_, errs, err := h.store.Reserve(ctx, []bulkhead.Reservation{{Certificate: row, Intent: leaf}})
	if err != nil {
		return err
	}
	if errs[0] != nil && bulkhead.KindOf(errs[0]) != bulkhead.KindConflict {
		return errs[0]
	}
	out := leaf
	out.Kind, out.Link, out.Digest = bulkhead.EvCertificateOutcome, leaf.Digest, bulkhead.Digest(c.DER)
	_, errs, err = h.store.Complete(ctx, []bulkhead.Completion{{CertificateRef: row.CertificateRef, DER: c.DER, Outcome: out}})
	if err != nil {
		return err
	}
	return errs[0]
}

func (h *House) plantPrepared(ctx context.Context, all []bulkhead.Prepared, now time.Time) error {
	for i := range all {
		p := &all[i]
		p.ImportedAt = now
		if p.Kind != bulkhead.PreparedDelegate {
			continue
		}
		d := bulkhead.Delegate{Authority: p.Authority, Certificate: p.DER, KeyURI: p.KeyURI, NotBefore: p.NotBefore, NotAfter: p.NotAfter}
		have, err := h.store.Delegates(ctx, p.Authority)
		if err != nil {
			return err
		}
		known := false
		for _, x := range have {
			known = known || x.KeyURI == d.KeyURI
		}
		if !known {
			if err := h.store.PutDelegate(ctx, d); err != nil {
				return err
			}
		}
	}
	return h.store.PutPrepared(ctx, all)
}
