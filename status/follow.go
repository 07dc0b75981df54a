package status

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/pack"
)

const (
	alarmCaches   = "status-caches"
	runbookCaches = "status-caches.md"
)

// follow verifies a public change in the background: by foreign verifiers, then through every tier of caches. One at a
// time for each change.
func (s *Service) follow(ctx context.Context, id string) {
	if _, busy := s.following.LoadOrStore(id, struct{}{}); busy {
		return
	}
	s.background.Add(1)
	go func() {
		defer s.background.Done()
		defer s.following.Delete(id)
		s.outcome(ctx, id, s.verify(ctx, id))
	}()
}

// verify looks at a public change as the world does, and settles it when all is as approved. Something that turned
// revoked outside the change is taken back at once. An error leaves the change public with its problem; it is looked at
// again.
func (s *Service) verify(ctx context.Context, id string) error {
	c, err := s.cfg.Store.Change(ctx, id)
	if err != nil || c.State != bulkhead.ChangePublished {
		return err
	}
	if err := s.isPublic(ctx, c); err != nil {
		return err
	}
	if err := s.verifyPublic(ctx, c); err != nil {
		return s.note(ctx, c, err)
	}
	told := "verified by " + s.verifierNames()
	if s.cfg.Tiers != nil {
		if err := s.cleanTiers(ctx, c); err != nil {
			return err
		}
		told += " and through every tier of caches"
	}
	if c, err = s.cfg.Store.Change(ctx, id); err != nil || c.State != bulkhead.ChangePublished {
		return err
	}
	c.State, c.Problem, c.Dies = bulkhead.ChangeSettled, "", time.Time{}
	if err := s.cfg.Store.MoveChange(ctx, c, bulkhead.ChangePublished, s.leaf(bulkhead.EvChangeSettled, c, "role:status", told)); err != nil {
		return err
	}
	s.corpora.Delete(id)
	return nil
}

func (s *Service) verifierNames() string {
	names := []string{"our own checks"}
	for _, v := range s.cfg.Verifiers {
		names = append(names, v.Name())
	}
	return strings.Join(names, ", ")
}

// looksAgain is how often a look is repeated that another change overtook.
const looksAgain = 3

// verifyPublic has foreign verifiers look at what an edge serves. The record moves on meanwhile: a certificate that
// another change revoked between our reading and a verifier's looking is no fault, and the look is repeated.
func (s *Service) verifyPublic(ctx context.Context, c bulkhead.Change) error {
	if len(s.cfg.Verifiers) == 0 {
		return nil
	}
	for n := 1; ; n++ {
		h, answers, err := s.publicEdge(ctx)
		if err != nil {
			return err
		}
		expected, err := s.expectPublic(ctx, c, h)
		if err != nil {
			return err
		}
		l, err := s.examine(ctx, h, answers, expected)
		if err != nil {
			return err
		}
		if len(l.wrong) > 0 {
			overtaken, err := s.takeBack(ctx, c, l.wrong)
			if overtaken && err == nil && n < looksAgain {
				continue
			}
			if overtaken && err == nil {
				err = bulkhead.Faultf(bulkhead.KindUnavailable, "other changes overtook %d looks at change %s", n, c.ID).WithHint("bulkhead change show " + c.ID)
			}
			return err
		}
		if why := l.objection(c); why != nil {
			s.alarm(ctx, bulkhead.Alarm{Detector: alarmCanary, Key: c.ID, Severity: bulkhead.Warning, Runbook: runbookCanary, Message: "change " + c.ID + " is public and not verified: " + bulkhead.AsFault(why).Detail})
			return why
		}
		ev := s.leaf(bulkhead.EvChangeVerified, c, "role:status", l.detail())
		ev.Count = int64(l.certificates)
		_, err = s.cfg.Store.AppendEvidence(ctx, ev)
		return err
	}
}

// publicEdge is the public head and an edge that serves it.
func (s *Service) publicEdge(ctx context.Context) (*pack.Head, Answerer, error) {
	h, err := s.publicHead(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.cfg.Edges == nil {
		return h, &packs{s: s, head: h}, nil
	}
	answers, err := s.cfg.Edges.Public(ctx, h.Sequence)
	return h, answers, err
}

// expectPublic is what the world must hear now: of the change's own certificates what the record says, and of bystanders,
// those that were good before it among them, that they are good, unless another change revoked them.
func (s *Service) expectPublic(ctx context.Context, c bulkhead.Change, h *pack.Head) ([]expectation, error) {
	expected, err := s.expectations(ctx, c, h, func(a bulkhead.AffectedStatus) bulkhead.CertificateState { return a.State })
	if err != nil {
		return nil, err
	}
	before, _ := s.corpora.Load(c.ID)
	refs, _ := before.([]bulkhead.CertificateRef)
	for _, ref := range refs {
		if slices.ContainsFunc(expected, func(e expectation) bool { return e.ref == ref }) {
			continue
		}
		if by, err := s.revokedBy(ctx, ref); err != nil {
			return nil, err
		} else if by == "" {
			expected = append(expected, expectation{ref: ref, want: bulkhead.Issued})
		}
	}
	return expected, nil
}

// revokedBy finds the newest public change that names a certificate; "" when there is none among the last thousand.
func (s *Service) revokedBy(ctx context.Context, ref bulkhead.CertificateRef) (string, error) {
	done, err := s.cfg.Store.Changes(ctx, batchSize, bulkhead.ChangeActivated, bulkhead.ChangePublished, bulkhead.ChangeSettled)
	if err != nil {
		return "", err
	}
	for _, c := range done {
		named, err := s.isItem(ctx, c.ID, ref)
		if err != nil {
			return "", err
		}
		if named {
			if c.TakesBack() {
				return "", nil
			}
			return c.ID, nil
		}
	}
	return "", nil
}

// takeBack is the automatic rollback: certificates that are said to be revoked and that the record calls good are said to
// be good again, by a change with its own record. What a change revoked stays as it is: that was approved by people.
// Verifiers look a second time while nothing can be activated; overtaken says that the second look found nothing wrong.
func (s *Service) takeBack(ctx context.Context, c bulkhead.Change, found []bulkhead.CertificateRef) (overtaken bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return false, err
	}
	h, wrong, err := s.stillWrong(ctx, c, found)
	if err != nil || len(wrong) == 0 {
		return err == nil, err
	}
	s.alarm(ctx, bulkhead.Alarm{Detector: alarmCanary, Key: c.ID, Severity: bulkhead.Critical, Runbook: runbookCanary,
		Message: fmt.Sprintf("after change %s, %s is said to be revoked, which nothing revokes: rolling back what is outside the change", c.ID, wrong[0])})
	if by, err := s.takenBackBy(ctx, c.ID); err != nil || by.ID != "" {
		switch {
		case err != nil:
		case by.State == bulkhead.ChangePublished || by.State == bulkhead.ChangeSettled:
			// Once is enough: what comes back after that is no slip, and signing it over and over helps nobody.
			err = bulkhead.Faultf(bulkhead.KindGate, "change %s said again that %s is good, and a verifier still takes it for revoked: a person has to look", by.ID, wrong[0]).WithHint("look at " + bulkhead.RunbookPage(runbookCanary))
		default: // a crash came between
			err = bulkhead.Faultf(bulkhead.KindUnavailable, "change %s, which says again that %s is good, is %s and on its way", by.ID, wrong[0], by.State).WithHint("bulkhead change show " + by.ID)
		}
		return false, err
	}
	items, err := s.wrongBeside(ctx, c, h, wrong)
	if err != nil {
		return false, err
	}
	why := fmt.Sprintf("automatic: %d certificates outside change %s were said to be revoked", len(items), c.ID)
	back, err := s.planBack(ctx, bulkhead.Change{Actor: "role:status", Why: why, Undoes: c.ID}, items)
	if err != nil {
		return false, err
	}
	if err := s.Approve(ctx, back.ID, back.PreviewHash, "role:status"); err != nil {
		return false, err
	}
	if err := s.activate(ctx, back.ID); err != nil {
		return false, err
	}
	s.cfg.Log.WarnContext(ctx, "rolled back what was outside the change", slog.String("change", c.ID), slog.String("by", back.ID), slog.Int("certificates", len(items)))
	return false, bulkhead.Faultf(bulkhead.KindUnavailable, "%d certificates outside change %s were said to be revoked; change %s says again that they are good", len(items), c.ID, back.ID).
		WithHint("bulkhead change show " + back.ID)
}

// stillWrong are those of the found that the record calls good and a verifier takes for revoked, at the public head of
// this moment. Callers hold mu, so that neither moves. A record that says revoked is never taken back by a machine: when
// no change of late accounts for it, a person has to look (KindGate).
func (s *Service) stillWrong(ctx context.Context, c bulkhead.Change, found []bulkhead.CertificateRef) (*pack.Head, []bulkhead.CertificateRef, error) {
	h, answers, err := s.publicEdge(ctx)
	if err != nil {
		return nil, nil, err
	}
	var expected []expectation
	for _, ref := range found {
		row, _, err := s.cfg.Store.Certificate(ctx, ref)
		if err != nil {
			return nil, nil, err
		}
		if row.State == bulkhead.Issued {
			expected = append(expected, expectation{ref: ref, want: bulkhead.Issued})
			continue
		}
		by, err := s.revokedBy(ctx, ref)
		if err != nil {
			return nil, nil, err
		}
		if by == "" {
			why := bulkhead.Faultf(bulkhead.KindGate, "the record says that %s is %s, and no change of late made it so: a person has to look", ref, row.State).WithHint("bulkhead fsck; look at " + bulkhead.RunbookPage(runbookCanary))
			s.alarm(ctx, bulkhead.Alarm{Detector: alarmCanary, Key: c.ID, Severity: bulkhead.Critical, Runbook: runbookCanary, Message: bulkhead.AsFault(why).Detail})
			return nil, nil, why
		}
	}
	if len(expected) == 0 {
		return h, nil, nil
	}
	l, err := s.examine(ctx, h, answers, expected)
	if err != nil {
		return nil, nil, err
	}
	return h, l.wrong, nil
}

// takenBackBy finds the automatic rollback after a change, on its way or public; the zero Change when there is none.
func (s *Service) takenBackBy(ctx context.Context, id string) (bulkhead.Change, error) {
	all, err := s.cfg.Store.Changes(ctx, batchSize, bulkhead.ChangeApproved, bulkhead.ChangeStaged, bulkhead.ChangeActivated, bulkhead.ChangePublished, bulkhead.ChangeSettled)
	for _, c := range all {
		if c.Undoes == id && c.Rule == "" {
			return c, err
		}
	}
	return bulkhead.Change{}, err
}

// wrongBeside gathers every certificate that is said to be revoked and that nothing revokes, under the authorities of
// those that were found: what the newest packs and the CRLs say is held against the record.
func (s *Service) wrongBeside(ctx context.Context, c bulkhead.Change, h *pack.Head, found []bulkhead.CertificateRef) ([]bulkhead.ChangeItem, error) {
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	refs := slices.Clone(found)
	for _, a := range authorities {
		ih := h.Issuer(a.ID)
		if ih == nil || !slices.ContainsFunc(found, func(r bulkhead.CertificateRef) bool { return r.Issuer == a.ID }) {
			continue
		}
		serials, err := s.saidRevoked(ctx, a, ih)
		if err != nil {
			return nil, err
		}
		rows, err := s.rows(ctx, a.ID, serials)
		if err != nil {
			return nil, err
		}
		for _, serial := range serials {
			if rows[serial].State == bulkhead.Issued {
				refs = append(refs, bulkhead.CertificateRef{Issuer: a.ID, Serial: serial})
			}
		}
	}
	slices.SortFunc(refs, func(x, y bulkhead.CertificateRef) int { return strings.Compare(x.String(), y.String()) })
	var items []bulkhead.ChangeItem
	for _, ref := range slices.Compact(refs) {
		if named, err := s.isItem(ctx, c.ID, ref); err != nil || named {
			if err != nil {
				return nil, err
			}
			continue
		}
		items = append(items, bulkhead.ChangeItem{CertificateRef: ref, RevokedAt: s.now()})
	}
	return items, nil
}

// largestSearched bounds the packs that are searched for wrong answers; a base of millions is no work for a minute.
const largestSearched = 256 << 20

// saidRevoked is what the packs and CRLs of an authority say is revoked, by the newest answer.
func (s *Service) saidRevoked(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) ([]bulkhead.Serial, error) {
	seen, revoked := map[bulkhead.Serial]bool{}, map[bulkhead.Serial]bool{}
	for _, ref := range ih.Packs {
		if ref.Size > largestSearched {
			break
		}
		p, err := s.openPack(ctx, ref)
		if err != nil {
			return nil, err
		}
		err = p.Each(func(e pack.Entry) error {
			if !seen[e.Serial] && e.Revoked {
				revoked[e.Serial] = true
			}
			seen[e.Serial] = true
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, ref := range ih.CRLs {
		der, err := s.cfg.Objects.Get(ctx, ref.Name)
		if err != nil {
			return nil, err
		}
		if _, err := crl.Parse(der, func(e crl.Entry) error { revoked[e.Serial] = true; return nil }); err != nil {
			return nil, err
		}
	}
	out := make([]bulkhead.Serial, 0, len(revoked))
	for serial := range revoked {
		out = append(out, serial)
	}
	return out, nil
}

// cleanTiers purges the caches from the origin outwards, and fetches through every one of them. What is not clean is
// named with the change, with the time at which the last wrong answer dies.
func (s *Service) cleanTiers(ctx context.Context, c bulkhead.Change) error {
	p, err := s.cfg.Tiers.Purge(ctx, c.ID)
	if err != nil {
		s.stuck(ctx, c, "the caches could not be purged: "+bulkhead.AsFault(err).Detail, c.ActivatedAt.Add(s.cfg.Policy.AnswerValidity))
		return err
	}
	if p.Head < c.Epoch || p.Began.Before(p.HeadAt) {
		// The order is the whole point: a cache that is purged first fetches the wrong answer again.
		return bulkhead.Faultf(bulkhead.KindInternal, "caches were purged at %s on head %d of %s, and change %s is in head %d", p.Began.UTC().Format(time.RFC3339), p.Head, p.HeadAt.UTC().Format(time.RFC3339), c.ID, c.Epoch)
	}
	ev := s.leaf(bulkhead.EvCachesPurged, c, "role:status", clip(p.Detail))
	ev.Count = int64(p.Head)
	if _, err := s.cfg.Store.AppendEvidence(ctx, ev); err != nil {
		return err
	}
	v, err := s.cfg.Tiers.Verify(ctx, c.ID)
	if err != nil {
		s.stuck(ctx, c, "the caches could not be verified: "+bulkhead.AsFault(err).Detail, c.ActivatedAt.Add(s.cfg.Policy.AnswerValidity))
		return err
	}
	if !v.Clean {
		text := strings.Join(v.Behind, "; ")
		s.stuck(ctx, c, text, v.Dies)
		return bulkhead.Faultf(bulkhead.KindUnavailable, "change %s is public; a cache is behind: %s", c.ID, text).WithHint("bulkhead change show " + c.ID)
	}
	ev = s.leaf(bulkhead.EvCachesVerified, c, "role:status", clip(v.Detail))
	ev.Count = int64(v.Head)
	_, err = s.cfg.Store.AppendEvidence(ctx, ev)
	return err
}

// stuck keeps a problem of the caches with the change and raises its alarm; the status itself is public all the same.
func (s *Service) stuck(ctx context.Context, c bulkhead.Change, text string, dies time.Time) {
	if ctx.Err() != nil {
		return
	}
	s.problem(ctx, c, text, dies)
	s.alarm(ctx, bulkhead.Alarm{Detector: alarmCaches, Key: c.ID, Severity: bulkhead.Warning, Runbook: runbookCaches,
		Message: fmt.Sprintf("change %s is public, and %s; the last wrong answer dies at %s", c.ID, text, dies.UTC().Format(time.RFC3339))})
}
