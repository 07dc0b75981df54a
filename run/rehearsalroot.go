package run

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/keys"
	"bulkhead/pki/lint"
)

// RootCeremony signs an issuing authority for a request with the root of the first start, as the offline tool would. It
// returns the certificate and the chain above it, nearest first.
func (r *Rehearsal) RootCeremony(ctx context.Context, id bulkhead.AuthorityID, csr []byte, commonName string, days int) (certificate []byte, chain [][]byte, err error) {
	dir := RootDir(r.h.dir)
	ring, err := keys.OpenFileRing(keys.Config{Dir: dir, IdentityFile: filepath.Join(dir, rootIdentity)})
	if err != nil {
		return nil, nil, err
	}
	uris, err := ring.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(uris) != 1 {
		return nil, nil, bulkhead.Faultf(bulkhead.KindConflict, "the root's folder has %d keys, one was made", len(uris))
	}
	root, err := r.h.store.Authority(ctx, rootID)
	if err != nil {
		return nil, nil, err
	}
	before, err := os.ReadFile(filepath.Join(r.h.dir, "ceremony", "0001.json"))
	if err != nil {
		return nil, nil, fmt.Errorf("transcript of the first ceremony: %w", err)
	}
	linter, err := lint.New(lint.Config{})
	if err != nil {
		return nil, nil, err
	}
	plan := ceremony.Plan{Title: "a new issuing authority", StatusURL: r.h.cfg.StatusURL, Root: rootID,
		Existing: []ceremony.Existing{{ID: rootID, Kind: bulkhead.RootAuthority, Certificate: root.Certificate, KeyURI: uris[0]}},
		Steps: []ceremony.Step{{Issuing: &ceremony.IssuingStep{ID: id, Kind: bulkhead.IssuingAuthority, Parent: rootID, Days: days, Shards: 8,
			Subject: ceremony.Name{CommonName: commonName, Organization: r.h.cfg.Organization, Country: r.h.cfg.Country}, Request: ceremony.Request{CSR: csr}}}}}
	res, err := ceremony.Execute(ctx, ceremony.Config{Ring: ring, Now: r.h.now, Rand: rand.Reader, Who: []string{"rehearsal"}, Lint: linter, PreviousTranscript: before}, plan)
	if err != nil {
		return nil, nil, err
	}
	if len(res.Authorities) != 1 {
		return nil, nil, bulkhead.Faultf(bulkhead.KindInternal, "the ceremony made %d authorities", len(res.Authorities))
	}
	return res.Authorities[0].Certificate, res.Authorities[0].Chain, nil
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
