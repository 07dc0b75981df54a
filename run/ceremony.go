package run

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/console"
	"bulkhead/pki/transcript"
)

// ceremonyStore is what the record keeps of ceremonies and of stand-by certificates.
type ceremonyStore interface {
	// Ceremonies returns all ceremonies and rehearsals, the last imported first.
	Ceremonies(ctx context.Context) ([]bulkhead.Ceremony, error)
	// PutCeremony keeps a ceremony and what it brought, all or nothing; KindConflict when it is there already.
	PutCeremony(ctx context.Context, c bulkhead.Ceremony, parts bulkhead.CeremonyParts, ev ...bulkhead.Evidence) error
	Standbys(ctx context.Context) ([]bulkhead.Standby, error)
	PutStandby(ctx context.Context, x bulkhead.Standby, ev ...bulkhead.Evidence) error
	// SwitchChain serves a stand-by and lays the certificate served before in its place; KindConflict when either moved.
	SwitchChain(ctx context.Context, to, old bulkhead.Standby, ev ...bulkhead.Evidence) error
	OfferStandby(ctx context.Context, authority bulkhead.AuthorityID, certificate bulkhead.Hash, until time.Time, ev ...bulkhead.Evidence) error
}

// offline implements console.Offline.
type offline struct{ h *House }

// Ceremonies implements console.Offline.
func (x offline) Ceremonies(ctx context.Context) ([]bulkhead.Ceremony, error) {
	return x.h.store.Ceremonies(ctx)
}

// syncTranscripts makes the record and the folder of transcripts hold the same: a ceremony on this machine leaves a file,
// an import leaves a row first, and a crash may come between.
func (h *House) syncTranscripts(ctx context.Context, _ seed) error {
	if !h.roles.all() {
		return nil // the record alone speaks where roles have machines of their own
	}
	rows, err := h.store.Ceremonies(ctx)
	if err != nil {
		return err
	}
	known := map[bulkhead.Hash]bool{}
	for _, c := range rows {
		known[c.Digest] = true
	}
	files, last, err := transcriptFiles(h.dir)
	if err != nil {
		return err
	}
	inFiles := map[bulkhead.Hash]bool{}
	for _, f := range files {
		body, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("transcript: %w", err)
		}
		inFiles[bulkhead.Digest(body)] = true
		if !known[bulkhead.Digest(body)] {
			if err := h.takeUp(ctx, body); err != nil {
				return err
			}
		}
	}
	for i := len(rows) - 1; i >= 0; i-- {
		if rows[i].Rehearsal || inFiles[rows[i].Digest] {
			continue
		}
		last++
		if err := writeFile(filepath.Join(h.dir, ceremonyDir, fmt.Sprintf("%04d.json", last)), rows[i].Signed, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// takeUp records a transcript found in the data directory. One that no root of the house signed is left where it is.
func (h *House) takeUp(ctx context.Context, body []byte) error {
	all, err := h.store.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		root, err := x509.ParseCertificate(a.Certificate)
		if a.Kind != bulkhead.RootAuthority || err != nil {
			continue
		}
		t, err := transcript.Verify(body, root)
		if err != nil {
			continue
		}
		c := recordOf(t, body, "", h.now())
		c.Actor, c.FinishedAt = "role:house", t.StartedAt
		err = h.store.PutCeremony(ctx, c, bulkhead.CeremonyParts{}, ceremonyLeaf(c, a.ID, h.now()))
		if bulkhead.KindOf(err) == bulkhead.KindConflict {
			return nil // another process was faster
		}
		return err
	}
	h.log.WarnContext(ctx, "a transcript in the data directory is of no root of this house", slog.String("sha256", bulkhead.Digest(body).String()))
	return nil
}

func recordOf(t *transcript.Transcript, signed []byte, change string, now time.Time) bulkhead.Ceremony {
	began := t.BeganAt
	if began.IsZero() {
		began = t.StartedAt
	}
	return bulkhead.Ceremony{Digest: bulkhead.Digest(signed), Previous: t.Previous, Root: t.Root, Title: t.Title, Rehearsal: t.Rehearsal, Change: change,
		BeganAt: began.UTC().Truncate(time.Second), ImportedAt: now.UTC().Truncate(time.Second), Signed: signed}
}

func ceremonyLeaf(c bulkhead.Ceremony, root bulkhead.AuthorityID, now time.Time) bulkhead.Evidence {
	kind, detail := bulkhead.EvCeremony, "ceremony: "+c.Title
	if c.Rehearsal {
		kind, detail = bulkhead.EvRehearsal, "rehearsal: "+c.Title
	}
	return bulkhead.Evidence{Kind: kind, At: now.UTC(), Actor: c.Actor, Authority: root, Ref: c.Change, Signer: c.Root, Digest: c.Digest, Link: c.Previous,
		Count: int64(max(c.FinishedAt.Sub(c.BeganAt), 0) / time.Second), Detail: detail}
}

// ImportCeremony implements console.Offline. Certificates go in first, by the two writes of every certificate, which may
// be repeated; then one transaction keeps the ceremony and all else that it brought. Interrupted, the same bundle is
// imported again.
func (x offline) ImportCeremony(ctx context.Context, actor string, text []byte, newRoot bulkhead.Hash, dry bool) (console.ImportView, error) {
	loose, err := transcript.Open(text, nil) // against its own root, to learn which it is
	if err != nil {
		return console.ImportView{}, err
	}
	in := &importing{h: x.h, actor: actor, now: x.h.now().UTC().Truncate(time.Second)}
	in.record = recordOf(loose.Transcript, loose.Signed, "", in.now)
	in.record.Actor, in.record.FinishedAt = actor, loose.FinishedAt.UTC().Truncate(time.Second)
	if in.rows, err = x.h.store.Ceremonies(ctx); err != nil {
		return console.ImportView{}, err
	}
	for _, c := range in.rows {
		if c.Digest == in.record.Digest {
			v := in.view()
			v.Already = true
			return v, nil
		}
	}
	if loose.Transcript.Rehearsal {
		return in.rehearsal(ctx, dry)
	}
	if err := in.open(ctx, text, loose, newRoot); err != nil {
		return console.ImportView{}, err
	}
	if err := in.gather(ctx); err != nil {
		return console.ImportView{}, err
	}
	if dry {
		return in.view(), nil
	}
	return in.commit(ctx)
}

// importing is one import.
type importing struct {
	h     *House
	actor string
	now   time.Time
	rows  []bulkhead.Ceremony

	record      bulkhead.Ceremony
	bundle      *transcript.Bundle
	plan        ceremony.Plan
	result      *ceremony.Result
	authorities map[bulkhead.AuthorityID]bulkhead.Authority // of the record, and those that the bundle brings
	signer      bulkhead.AuthorityID                        // the root of the transcript
	parts       bulkhead.CeremonyParts
	evidence    []bulkhead.Evidence
}

func (in *importing) view() console.ImportView {
	v := console.ImportView{Transcript: in.record.Digest, Title: in.record.Title, Rehearsal: in.record.Rehearsal, Change: in.record.Change, Delegates: len(in.parts.Delegates),
		Authorities: []bulkhead.AuthorityID{}, Standbys: []bulkhead.AuthorityID{}, Destroyed: append([]bulkhead.AuthorityID{}, in.parts.Destroyed...),
		Seconds: int64(max(in.record.FinishedAt.Sub(in.record.BeganAt), 0) / time.Second)}
	if in.result != nil {
		v.Certificates = len(in.result.Certificates)
	}
	for _, a := range in.parts.Authorities {
		v.Authorities = append(v.Authorities, a.ID)
	}
	for _, s := range in.parts.Standbys {
		v.Standbys = append(v.Standbys, s.Authority)
	}
	for _, p := range in.parts.Prepared {
		if p.Kind == bulkhead.PreparedCRL {
			v.CRLs++
		}
	}
	if v.Change != "" {
		v.Next = "bulkhead change approve " + v.Change
	}
	return v
}

// rehearsal keeps the record and nothing else: what a rehearsal signed is of no use.
func (in *importing) rehearsal(ctx context.Context, dry bool) (console.ImportView, error) {
	if in.record.FinishedAt.After(in.now.Add(time.Hour)) || in.record.FinishedAt.Before(in.record.BeganAt) {
		return console.ImportView{}, bulkhead.NewFault(bulkhead.KindGate, "the rehearsal ended before it began, or in the future").WithHint("set the clock of the offline machine right and rehearse again")
	}
	if !dry {
		if err := in.h.store.PutCeremony(ctx, in.record, bulkhead.CeremonyParts{}, ceremonyLeaf(in.record, "", in.now)); err != nil {
			return console.ImportView{}, err
		}
	}
	return in.view(), nil
}

// open verifies the bundle against a root that the house knows, or that the operator quoted, and its place in the chain
// of transcripts.
func (in *importing) open(ctx context.Context, text []byte, loose *transcript.Bundle, newRoot bulkhead.Hash) error {
	all, err := in.h.store.Authorities(ctx)
	if err != nil {
		return err
	}
	in.authorities = map[bulkhead.AuthorityID]bulkhead.Authority{}
	for _, a := range all {
		in.authorities[a.ID] = a
		if a.Kind == bulkhead.RootAuthority && bytes.Equal(a.Certificate, loose.Root.Raw) {
			in.signer = a.ID
		}
	}
	digest := bulkhead.Digest(loose.Root.Raw)
	if in.signer == "" && newRoot != digest {
		return bulkhead.Faultf(bulkhead.KindForbidden, "the house does not know the root of this ceremony, %q", loose.Root.Subject.CommonName).
			WithHint("if it is your new root, quote its SHA-256 from the paper record: bulkhead hierarchy import FILE --new-root HEX")
	}
	if in.bundle, in.plan, in.result, err = ceremony.OpenBundle(text, loose.Root); err != nil {
		return err
	}
	in.record.Change = in.plan.Change
	if in.signer == "" && !in.plan.MakesRoot() {
		return bulkhead.NewFault(bulkhead.KindForbidden, "the house does not know the root of this ceremony, and the ceremony did not make it").WithHint("import the ceremony that made the root first")
	}
	if in.signer == "" {
		in.signer = in.plan.Root
	}
	return in.follows()
}

// follows: transcripts of a root form one chain; two that follow the same one mean that something was signed that nobody
// was told of.
func (in *importing) follows() error {
	known := in.record.Previous.IsZero()
	for _, c := range in.rows {
		if c.Rehearsal || c.Root != in.record.Root {
			continue
		}
		known = known || c.Digest == in.record.Previous
		if c.Previous == in.record.Previous {
			return bulkhead.Faultf(bulkhead.KindConflict, "two ceremonies follow the same one: %q, imported at %s, and this one", c.Title, c.ImportedAt.UTC().Format(time.RFC3339)).
				WithHint("find out what was signed in both; hold the ceremony again after transcript " + in.rows[0].Digest.String())
		}
	}
	if !known {
		return bulkhead.Faultf(bulkhead.KindConflict, "the ceremony before this one, with transcript %s, was not imported", in.record.Previous).WithHint("import the bundles in their order")
	}
	return nil
}

// commit writes. The order makes every prefix harmless and repeatable.
func (in *importing) commit(ctx context.Context) (console.ImportView, error) {
	for _, c := range in.result.Certificates {
		if err := in.h.plantCertificate(ctx, in.actor, c, in.record.Digest, in.now); err != nil {
			return console.ImportView{}, err
		}
	}
	in.evidence = append([]bulkhead.Evidence{ceremonyLeaf(in.record, in.signer, in.now)}, in.evidence...)
	if err := in.h.store.PutCeremony(ctx, in.record, in.parts, in.evidence...); err != nil {
		return console.ImportView{}, err
	}
	if err := in.h.syncTranscripts(ctx, seed{}); err != nil {
		return console.ImportView{}, err
	}
	if in.record.Change != "" {
		if _, _, err := in.h.status.Preview(ctx, in.record.Change); err != nil {
			return console.ImportView{}, err
		}
	}
	if err := in.h.status.Tick(ctx); err != nil {
		in.h.log.WarnContext(ctx, "what the ceremony brought is published with the next look", slog.String("error", err.Error()))
	}
	return in.view(), nil
}
