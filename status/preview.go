package status

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"bulkhead"
	"bulkhead/pki/graph"
)

// Preview is what a change would do to answers and paths; see bulkhead.Preview.
type Preview = bulkhead.Preview

// PreviewItem is one certificate of a preview.
type PreviewItem = bulkhead.PreviewItem

// Bounds of what a preview shows.
const (
	shown       = 100 // items of the change
	shownHits   = 20  // certificates of a misreading, or outside the change
	sampleNames = 3   // names of a product
)

// Preview computes what the change does and stores it with its hash. A change may be previewed again; approvals of
// the older preview then count no more, unless it says the same.
//
// It reads rows in proportion to the change and to the number of authorities and profiles. Only when a certificate of an
// authority is in the change, what is in use below it is counted, and its answers are recomputed.
func (s *Service) Preview(ctx context.Context, id string) (Preview, bulkhead.Hash, error) {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil {
		return Preview{}, bulkhead.Hash{}, err
	}
	if !c.State.CanMove(bulkhead.ChangePreviewed) {
		return Preview{}, bulkhead.Hash{}, bulkhead.Faultf(bulkhead.KindConflict, "change %s is %s and cannot be previewed any more", id, c.State)
	}
	defer s.holding(ctx, c)()
	p, err := s.foresee(ctx, c)
	if err != nil {
		return p, bulkhead.Hash{}, err
	}
	body, err := json.Marshal(p)
	if err != nil {
		return p, bulkhead.Hash{}, err
	}
	was := c.State
	c.State, c.Preview, c.PreviewHash = bulkhead.ChangePreviewed, body, bulkhead.Digest(body)
	return p, c.PreviewHash, s.cfg.Store.MoveChange(ctx, c, was, s.leaf(bulkhead.EvChangePreviewed, c, "role:status", "preview made"))
}

// foresight is a preview in the making.
type foresight struct {
	s *Service
	w *world
	*chart
	p       *Preview
	change  string
	targets targets              // all of it
	first   []direct             // the first maxEmulated, with their rows
	cas     []direct             // certificates of authorities
	revoked []*graph.Certificate // certificates of authorities in the change that are in the graph
	effects []graph.Effect
	census  map[bulkhead.AuthorityID]*census
	twins   *leafTwins
}

// direct is what is kept of a certificate of the change.
type direct struct {
	bulkhead.CertificateRef
	row bulkhead.Certificate // without names
}

func (s *Service) foresee(ctx context.Context, c bulkhead.Change) (Preview, error) {
	p := Preview{Change: c.ID, Why: c.Why, Count: c.Count, ByIssuer: map[bulkhead.AuthorityID]int{}, ByProfile: map[string]int{}, Direct: []PreviewItem{},
		AnchorSets: []string{}, PathsLost: []bulkhead.PathReport{}, PathsReduced: []bulkhead.PathReport{}, Unaffected: map[bulkhead.AuthorityID]bulkhead.Spared{},
		Misread: []bulkhead.Misread{}, Shadow: bulkhead.Shadow{Samples: []bulkhead.NamedCertificate{}}, Subtree: []bulkhead.SubtreeAuthority{}, Ceremonies: []bulkhead.NeededCeremony{}, Warnings: []string{}, Blocked: []string{}}
	w, err := s.look(ctx)
	if err != nil {
		return p, err
	}
	f := &foresight{s: s, w: w, chart: s.draw(w), p: &p, change: c.ID, census: map[bulkhead.AuthorityID]*census{}}
	p.World, p.Warnings = w.digest, append(p.Warnings, w.unread...)
	for _, set := range f.sets {
		p.AnchorSets = append(p.AnchorSets, set.Name)
	}
	for _, step := range []func(context.Context) error{f.readItems, f.offline, f.paths, f.spared, f.misreadings, f.recompute} {
		if err := step(ctx); err != nil {
			return p, err
		}
	}
	if f.targets.n != c.Count {
		return p, bulkhead.Faultf(bulkhead.KindConflict, "change %s has %d certificates, and %d were counted: some are still being added", c.ID, f.targets.n, c.Count).WithHint("bulkhead change show " + c.ID)
	}
	p.Items = itemsDigest(itemsOf(f.targets.sorted()))
	return p, nil
}

// readItems holds every item against the record as it is now.
func (f *foresight) readItems(ctx context.Context) error {
	return f.s.eachRun(ctx, f.change, func(items []bulkhead.ChangeItem) error {
		rows, err := f.s.certificates(ctx, items)
		if err != nil {
			return err
		}
		for _, it := range items {
			if err := f.readItem(it, rows); err != nil {
				return err
			}
		}
		return nil
	})
}

func (f *foresight) readItem(it bulkhead.ChangeItem, rows map[bulkhead.Serial]bulkhead.Certificate) error {
	row, ok := rows[it.Serial]
	checked := it
	err := error(nil)
	if !ok {
		err = neverIssued(it.CertificateRef)
	} else {
		err = checkRow(row, &checked, f.s.now())
	}
	if err != nil {
		if k := bulkhead.KindOf(err); k != bulkhead.KindAlreadyRevoked && k != bulkhead.KindNotFound {
			return err
		}
		f.block("%s", bulkhead.AsFault(err).Detail)
	}
	if row.Kind == bulkhead.CACertificate {
		f.p.Authorities++
		if it.Reason == bulkhead.Unspecified {
			f.block("certificate %s of an authority needs a reason, which its CRL and its answer give (BR 7.2.2): --reason superseded, for example", it.Serial)
		}
	}
	f.p.ByIssuer[it.Issuer]++
	f.p.ByProfile[row.Profile]++
	if len(f.p.Direct) < shown {
		f.p.Direct = append(f.p.Direct, PreviewItem{Issuer: it.Issuer, Serial: it.Serial, Names: nameList(row), Subject: row.Subject, Kind: row.Kind,
			Before: row.State, After: bulkhead.Revoked, Reason: it.Reason.String()})
	}
	row.Names = nil
	f.targets.add(row, it)
	if len(f.first) < maxEmulated {
		f.first = append(f.first, direct{it.CertificateRef, row})
	}
	if row.Kind == bulkhead.CACertificate {
		f.cas = append(f.cas, direct{it.CertificateRef, row})
	}
	return nil
}

func nameList(c bulkhead.Certificate) []string {
	out := []string{}
	for _, n := range c.Names {
		out = append(out, n.Value)
	}
	return out
}

// firstName is a certificate in one word.
func firstName(c bulkhead.Certificate) string {
	switch {
	case len(c.Names) > 0:
		return c.Names[0].Value
	case c.Subject != "":
		return c.Subject
	default:
		return c.Serial.String()
	}
}

func (f *foresight) block(format string, args ...any) {
	f.p.Blocked = append(f.p.Blocked, fmt.Sprintf(format, args...))
}

func (f *foresight) warn(format string, args ...any) {
	f.p.Warnings = append(f.p.Warnings, fmt.Sprintf(format, args...))
}

// eachRun goes through the items of a change in runs of one issuer.
func (s *Service) eachRun(ctx context.Context, change string, f func(items []bulkhead.ChangeItem) error) error {
	var run []bulkhead.ChangeItem
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		part := run
		run = nil
		return f(part)
	}
	err := s.eachItem(ctx, change, func(it bulkhead.ChangeItem) error {
		if len(run) == batchSize || len(run) > 0 && run[0].Issuer != it.Issuer {
			if err := flush(); err != nil {
				return err
			}
		}
		run = append(run, it)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// stillTrue fails with KindGate for a preview that the world has overtaken: an authority, a certificate of one, or an
// anchor set that is not what the paths were computed from. New certificates of subscribers and refreshed answers move
// nothing; the items themselves are held against their rows by stillStand.
func (s *Service) stillTrue(ctx context.Context, c bulkhead.Change) error {
	var p Preview
	if err := json.Unmarshal(c.Preview, &p); err != nil || bulkhead.Digest(c.Preview) != c.PreviewHash {
		return bulkhead.Faultf(bulkhead.KindGate, "the stored preview of change %s does not have the hash that was approved", c.ID).WithHint("plan the change again: bulkhead cert revoke")
	}
	w, err := s.look(ctx)
	if err != nil {
		return err
	}
	if w.digest != p.World {
		return bulkhead.Faultf(bulkhead.KindGate, "the world moved since the preview of change %s: an authority, a certificate of one, or an anchor set is not what the paths were computed from", c.ID).
			WithHint("plan the change again: bulkhead change preview")
	}
	return nil
}

// sortedNames sorts for people and JSON.
func sortedNames(list []bulkhead.NamedCertificate) []bulkhead.NamedCertificate {
	slices.SortFunc(list, func(a, b bulkhead.NamedCertificate) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Issuer, b.Issuer), a.Serial.Compare(b.Serial))
	})
	return list
}
