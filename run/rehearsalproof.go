package run

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/proof"
	"bulkhead/watch/outside"
)

// Prove is `audit prove` over everything in this house, on its clock; certificates is a folder with some from outside, or "".
// It waits until the log covers what is in the record, as a person would who reads that the newest rows are not covered yet.
func (r *Rehearsal) Prove(ctx context.Context, certificates string) (proof.Report, error) {
	if err := r.Covered(ctx); err != nil {
		return proof.Report{}, err
	}
	return reconcile(ctx, r.h.cfg, r.h.store, ProveOptions{Dir: r.h.dir, All: true, Certificates: certificates, Now: r.h.now(), clock: r.h.now}, nil)
}

// Covered waits until the evidence log has a checkpoint over every row. A clock that is moved before would make the house
// believe that its log stands still.
func (r *Rehearsal) Covered(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		head, _, err := r.h.store.EvidenceHead(ctx)
		if err == nil && r.h.evidence.Checkpoint().Size >= head {
			return nil
		}
		select {
		case <-ctx.Done():
			return bulkhead.NewFault(bulkhead.KindUnavailable, "the evidence log does not catch up").WithCause(err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Rogue is a certificate that the key of an authority signed past the signer, as an intruder would who reached it.
func (r *Rehearsal) Rogue(ctx context.Context, by bulkhead.AuthorityID, name string, key any) ([]byte, error) {
	a, err := r.h.store.Authority(ctx, by)
	if err != nil {
		return nil, err
	}
	issuer, signer, err := r.signerOf(ctx, a)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("serial: %w", err)
	}
	now := r.h.now()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial.Add(serial, big.NewInt(1)), DNSNames: []string{name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(47 * 24 * time.Hour)}, issuer, key, signer)
	if err != nil {
		return nil, fmt.Errorf("a certificate past the signer: %w", err)
	}
	return der, nil
}

// ForgedAnswer is an answer that says good of a certificate, signed by the key of an authority that is not its issuer: what an
// intermediate with the purpose OCSPSigning could do to its siblings. signer is the SHA-256 of the SPKI that signed.
func (r *Rehearsal) ForgedAnswer(ctx context.Context, by bulkhead.AuthorityID, ref bulkhead.CertificateRef, hash ocsp.HashAlgorithm) (der []byte, signer bulkhead.Hash, err error) {
	about, err := r.h.store.Authority(ctx, ref.Issuer)
	if err != nil {
		return nil, signer, err
	}
	a, err := r.h.store.Authority(ctx, by)
	if err != nil {
		return nil, signer, err
	}
	if a.KeyURI == "" {
		return nil, signer, bulkhead.Faultf(bulkhead.KindNotFound, "there is no key of %s any more", by)
	}
	_, key, err := r.signerOf(ctx, a)
	if err != nil {
		return nil, signer, err
	}
	now := r.h.now().UTC().Truncate(time.Second)
	der, err = answerBy(about, key, a.Certificate, now, ocsp.Single{Serial: ref.Serial, State: ocsp.Good, ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(24 * time.Hour)}, hash)
	return der, bulkhead.Digest(a.SPKI), err
}

// LookThrough makes one round of the probes and of the reconciler, through an address beside those of the house, and gives the
// alarms that it raised, which are in the record as well.
func (r *Rehearsal) LookThrough(ctx context.Context, name, base string) ([]bulkhead.Alarm, error) {
	var raised []bulkhead.Alarm
	raise := func(ctx context.Context, a bulkhead.Alarm) {
		raised = append(raised, a)
		r.h.watch.Raise(ctx, a)
	}
	reconciler, err := outside.NewReconciler(outside.ReconcilerConfig{Record: r.h.store, Public: newPublication(r.h), Raise: raise, Now: r.h.now})
	if err != nil {
		return nil, err
	}
	reconciler.Tick(ctx)
	p, err := outside.NewProber(outside.ProberConfig{Record: r.h.store, Public: newPublication(r.h), Points: []outside.Point{{Name: name, Base: base}}, Base: r.h.cfg.StatusURL, Raise: raise, Ledger: reconciler, Now: r.h.now})
	if err != nil {
		return nil, err
	}
	p.Once(ctx)
	return raised, nil
}
