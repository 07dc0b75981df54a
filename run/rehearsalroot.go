package run

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/console"
	"bulkhead/pki/lint"
	"bulkhead/pki/tlog"
)

// RootCeremony signs an issuing authority for a request with the root of the first start, as the offline tool would. It
// returns the certificate and the chain above it, nearest first.
func (r *Rehearsal) RootCeremony(ctx context.Context, id bulkhead.AuthorityID, csr []byte, commonName string, days int) (certificate []byte, chain [][]byte, err error) {
	root, err := openRoot(ctx, RootDir(r.h.dir), "")
	if err != nil {
		return nil, nil, err
	}
	before, last, err := newestTranscript(r.h.dir, root.certificate)
	if err != nil {
		return nil, nil, err
	}
	plan := ceremony.Plan{Title: "a new issuing authority", StatusURL: r.h.cfg.StatusURL, Root: rootID,
		Existing: []ceremony.Existing{{ID: rootID, Kind: bulkhead.RootAuthority, Certificate: root.certificate, KeyURI: root.uri}},
		Steps: []ceremony.Step{{Issuing: &ceremony.IssuingStep{ID: id, Kind: bulkhead.IssuingAuthority, Parent: rootID, Days: days, Shards: 8,
			Subject: ceremony.Name{CommonName: commonName, Organization: r.h.cfg.Organization, Country: r.h.cfg.Country}, Request: ceremony.Request{CSR: csr}}}}}
	res, err := r.hold(ctx, root, before, plan)
	if err != nil {
		return nil, nil, err
	}
	if len(res.Authorities) != 1 {
		return nil, nil, bulkhead.Faultf(bulkhead.KindInternal, "the ceremony made %d authorities", len(res.Authorities))
	}
	if err := writeFile(filepath.Join(r.h.dir, ceremonyDir, fmt.Sprintf("%04d.json", last+1)), res.Transcript, 0o644); err != nil {
		return nil, nil, err
	}
	return res.Authorities[0].Certificate, res.Authorities[0].Chain, r.h.takeUp(ctx, res.Transcript)
}

// hold carries out a plan with the root of the first start.
func (r *Rehearsal) hold(ctx context.Context, root offlineRoot, before []byte, plan ceremony.Plan) (*ceremony.Result, error) {
	linter, err := lint.New(lint.Config{})
	if err != nil {
		return nil, err
	}
	return ceremony.Execute(ctx, ceremony.Config{Ring: root.ring, Now: r.h.now, Rand: rand.Reader, Who: []string{"rehearsal"}, Lint: linter, PreviousTranscript: before}, plan)
}

// RevokeAuthority revokes the certificate of an authority of the first root by the way of a real day: a change, the ceremony
// that signs the root's CRLs for exactly that change, its bundle back into the house, the preview, and two people's signatures.
func (r *Rehearsal) RevokeAuthority(ctx context.Context, id bulkhead.AuthorityID, reason bulkhead.Reason, why string) error {
	ref, err := r.CertificateOf(ctx, id)
	if err != nil {
		return err
	}
	c, err := r.h.status.PlanRevocation(ctx, "operator:operator-1", why, []bulkhead.ChangeItem{{CertificateRef: ref, Reason: reason}})
	if err != nil {
		return err
	}
	if err := r.changeCeremony(ctx, c.ID); err != nil {
		return err
	}
	if _, _, err := r.h.status.Preview(ctx, c.ID); err != nil {
		return err
	}
	if c, err = r.h.status.Change(ctx, c.ID); err != nil {
		return err
	}
	return r.Approve(ctx, c, why)
}

// CertificateOf names the certificate that an authority has from the one above it.
func (r *Rehearsal) CertificateOf(ctx context.Context, id bulkhead.AuthorityID) (bulkhead.CertificateRef, error) {
	a, err := r.h.store.Authority(ctx, id)
	if err != nil {
		return bulkhead.CertificateRef{}, err
	}
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return bulkhead.CertificateRef{}, fmt.Errorf("certificate of %s: %w", id, err)
	}
	serial, err := bulkhead.SerialFromBig(cert.SerialNumber)
	return bulkhead.CertificateRef{Issuer: a.Parent, Serial: serial}, err
}

// changeCeremony holds the ceremony that a change waits for, and brings its bundle home.
func (r *Rehearsal) changeCeremony(ctx context.Context, change string) error {
	f, err := offline{r.h}.CeremonyFile(ctx, change, "", "")
	if err != nil {
		return err
	}
	plan, err := ceremony.ParsePlan([]byte(f.YAML))
	if err != nil {
		return err
	}
	root, err := openRoot(ctx, RootDir(r.h.dir), "")
	if err != nil {
		return err
	}
	res, err := r.hold(ctx, root, []byte(f.Previous), plan)
	if err != nil {
		return err
	}
	bundle, err := res.Bundle(plan, nil, r.h.now(), false)
	if err != nil {
		return err
	}
	_, err = offline{r.h}.ImportCeremony(ctx, "operator:operator-1", bundle, bulkhead.Hash{}, false)
	return err
}

// DestroyKey has two people destroy the key of a revoked authority, and gives the leaf that says so, who witnessed it, and its
// place in the log. It is refused while anything would be left without an answer.
func (r *Rehearsal) DestroyKey(ctx context.Context, id bulkhead.AuthorityID, why string) (p console.Destruction, leaf bulkhead.Evidence, index int64, err error) {
	if p, err = (endings{r.h}).Destruction(ctx, id, false); err != nil {
		return p, leaf, 0, err
	}
	after, _, err := r.h.store.EvidenceHead(ctx)
	if err != nil {
		return p, leaf, 0, err
	}
	req, err := r.h.quorum.Propose(ctx, console.ActionDestroyKey, p, "operator:operator-1", why)
	if err != nil {
		return p, leaf, 0, err
	}
	if err := r.sign(ctx, req, 2); err != nil {
		return p, leaf, 0, err
	}
	rows, err := r.h.store.EvidenceAfter(ctx, after, 1000)
	if err != nil {
		return p, leaf, 0, err
	}
	for _, row := range rows {
		if tlog.KindOf(row.Leaf) == bulkhead.EvKeyDestroyed {
			leaf, err = tlog.Parse(row.Leaf)
			return p, leaf, row.Seq - 1, err
		}
	}
	return p, leaf, 0, bulkhead.Faultf(bulkhead.KindInternal, "two people approved, and no leaf says that the key of %s is destroyed", id)
}

// RehearsedChildren are numbers of certificates below an authority that have not ended, by product, as the record counts
// them: what a campaign over the authority must come to.
func (r *Rehearsal) RehearsedChildren(ctx context.Context, issuer bulkhead.AuthorityID, at time.Time) (map[string]int, error) {
	out := map[string]int{}
	var after int64
	for {
		rows, err := r.h.store.IssuedAfter(ctx, after, 1000)
		if err != nil || len(rows) == 0 {
			return out, err
		}
		for _, c := range rows {
			if after = c.OutcomeSeq; c.Issuer == issuer && c.State == bulkhead.Issued && c.NotAfter.After(at) {
				out[c.Profile]++
			}
		}
	}
}
