package status

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"sort"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/pki/policy"
	"bulkhead/publish"
)

// batchSize is how many answers one token of the signer covers: large enough that intent and outcome cost little per
// answer, small enough that a crash repeats little.
const batchSize = 1000

// newAnswers publishes answers for certificates issued since the last look as a delta pack, the oldest of them first and a bounded number:
// a foreign authority brings a million in a moment, and everybody else's certificates, CRLs and changes would wait meanwhile.
func (s *Service) newAnswers(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) (bool, error) {
	var entries []pack.Entry
	var responders responderTable
	through := ih.ThroughSeq
	for left := s.cfg.Policy.AnswersAtOnce; left > 0; {
		most := min(batchSize, left)
		rows, err := s.cfg.Store.StatusSince(ctx, a.ID, through, most)
		if err != nil {
			return false, err
		}
		if len(rows) == 0 {
			break
		}
		got, err := s.signRows(ctx, a, rows, &responders)
		if err != nil {
			return false, err
		}
		entries = append(entries, got...)
		through = rows[len(rows)-1].Seq
		if left -= len(rows); len(rows) < most {
			break
		}
		s.behind = left == 0
	}
	if through == ih.ThroughSeq {
		return false, nil
	}
	if len(entries) > 0 {
		ref, err := s.putPack(ctx, a, entries, responders)
		if err != nil {
			return false, err
		}
		ih.Packs = append([]pack.ObjectRef{ref}, ih.Packs...)
	}
	ih.ThroughSeq = through
	return true, nil
}

// responderTable collects the delegate certificates of a pack; each stands once.
type responderTable struct{ certs [][]byte }

func (t *responderTable) index(cert []byte) int {
	for i, c := range t.certs {
		if bytes.Equal(c, cert) {
			return i
		}
	}
	t.certs = append(t.certs, cert)
	return len(t.certs) - 1
}

// signRows has the answers for rows of the record signed as they stand.
func (s *Service) signRows(ctx context.Context, a bulkhead.Authority, rows []bulkhead.Status, t *responderTable) ([]pack.Entry, error) {
	serials := make([]bulkhead.Serial, len(rows))
	for i, r := range rows {
		serials[i] = r.Serial
	}
	return s.signAnswers(ctx, a, serials, nil, nil, t)
}

// putPack writes answers as one immutable object. Entries may come in any order; a serial stands once.
func (s *Service) putPack(ctx context.Context, a bulkhead.Authority, entries []pack.Entry, t responderTable) (pack.ObjectRef, error) {
	id, err := ocsp.NewIssuer(a.Subject, a.SPKI)
	if err != nil {
		return pack.ObjectRef{}, err
	}
	sort.Slice(entries, func(i, j int) bool { return entries[i].Serial.Compare(entries[j].Serial) < 0 })
	return s.writePack(ctx, a.ID, id, func(w *pack.Writer) error { return addAll(w, entries, t) })
}

// writePack builds a pack and stores it under a name made of its digest.
func (s *Service) writePack(ctx context.Context, authority bulkhead.AuthorityID, id ocsp.Issuer, fill func(*pack.Writer) error) (pack.ObjectRef, error) {
	buf := &spool{ctx: ctx, objects: s.cfg.Objects}
	defer buf.close()
	w, err := pack.NewWriter(buf, id)
	if err != nil {
		return pack.ObjectRef{}, err
	}
	if err := fill(w); err != nil {
		return pack.ObjectRef{}, fmt.Errorf("building pack of %s: %w", authority, err)
	}
	ref, err := w.Finish()
	if err != nil {
		return ref, err
	}
	ref.Name = fmt.Sprintf("packs/%s/%s.pack", authority, ref.Digest.String()[:32])
	return ref, s.cfg.Objects.Put(ctx, publish.Object{Name: ref.Name, Type: "application/octet-stream", Body: buf.body()})
}

// openPack reads a pack back and checks its digest.
func (s *Service) openPack(ctx context.Context, ref pack.ObjectRef) (*pack.Pack, error) {
	body, err := s.cfg.Objects.Get(ctx, ref.Name)
	if err != nil {
		return nil, err
	}
	if bulkhead.Digest(body) != ref.Digest {
		return nil, fmt.Errorf("object %s is not what the head names", ref.Name)
	}
	return pack.Open(body)
}

// readBack checks that a pack is in the object store as it was written. Its bytes were checked before they were written,
// so the digest says all; a small one is opened as well.
func (s *Service) readBack(ctx context.Context, ref pack.ObjectRef) error {
	if ref.Size <= spooled {
		_, err := s.openPack(ctx, ref)
		return err
	}
	body, _, err := s.cfg.Objects.Open(ctx, ref.Name)
	if err != nil {
		return err
	}
	defer body.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, body); err != nil {
		return err
	}
	if bulkhead.Hash(sum.Sum(nil)) != ref.Digest {
		return fmt.Errorf("object %s is not what the head names", ref.Name)
	}
	return nil
}

// mergeDeltas keeps the number of packs small without a new signature: the newest answer of each serial wins.
func (s *Service) mergeDeltas(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) (bool, error) {
	if _, busy := s.refreshing.Load(ih.ID); busy || len(ih.Packs) <= s.cfg.Policy.MaxDeltas+1 {
		return false, nil // a merge during a refresh would put old answers above the new base
	}
	// Merge from the newest down while the next pack is not much larger than what is merged so far, so that a large
	// base is rewritten rarely.
	n, size := 1, ih.Packs[0].Size
	for n < len(ih.Packs) && (n < s.cfg.Policy.MaxDeltas || ih.Packs[n].Size <= 2*size) {
		size += ih.Packs[n].Size
		n++
	}
	packs := make([]*pack.Pack, n)
	for i := range packs {
		p, err := s.openPack(ctx, ih.Packs[i])
		if err != nil {
			return false, err
		}
		packs[i] = p
	}
	id, err := ocsp.NewIssuer(a.Subject, a.SPKI)
	if err != nil {
		return false, err
	}
	ref, err := s.writePack(ctx, a.ID, id, func(w *pack.Writer) error { return pack.Merge(w, nil, packs...) })
	if err != nil {
		return false, err
	}
	ih.Packs = append([]pack.ObjectRef{ref}, ih.Packs[n:]...)
	return true, nil
}

// endOf is the earliest nextUpdate in a pack; read from the pack once after a start.
func (s *Service) endOf(ctx context.Context, ref pack.ObjectRef) (time.Time, error) {
	if t, ok := s.ends.Load(ref.Name); ok {
		return t.(time.Time), nil
	}
	p, err := s.openPack(ctx, ref)
	if err != nil {
		return time.Time{}, err
	}
	early, _ := p.Window()
	s.ends.Store(ref.Name, early)
	return early, nil
}

// leeway is what is left for the signing, at most, before policy wants something newer in public.
const leeway = 6 * time.Hour

// refreshAge is how old answers get before they are signed again: half of their validity, and less where BR 4.9.9 wants
// the newer answer in public earlier than that would give; an eighth, or leeway, is left for the signing.
func refreshAge(validity time.Duration, at time.Time) time.Duration {
	return min(validity/2, policy.RefreshBefore(validity, at)-min(validity/8, leeway))
}

// startRefresh signs all answers of an authority again at refreshAge, in the background: revocations go on meanwhile.
func (s *Service) startRefresh(ctx context.Context, a bulkhead.Authority, ih *pack.IssuerHead) error {
	due := false
	for _, ref := range ih.Packs {
		end, err := s.endOf(ctx, ref)
		if err != nil {
			return err
		}
		due = due || end.Sub(s.now()) <= s.cfg.Policy.AnswerValidity-refreshAge(s.cfg.Policy.AnswerValidity, s.now())
	}
	// Answers cut short by the end of their delegate stay due however often they are signed: once per eighth of the
	// validity is enough.
	if last, ok := s.refreshed.Load(a.ID); !due || ok && s.now().Sub(last.(time.Time)) < s.cfg.Policy.AnswerValidity/8 {
		return nil
	}
	if _, busy := s.refreshing.LoadOrStore(a.ID, struct{}{}); busy {
		return nil
	}
	s.refreshed.Store(a.ID, s.now())
	replaced := append([]pack.ObjectRef(nil), ih.Packs...)
	s.background.Add(1)
	go func() {
		defer s.background.Done()
		defer s.refreshing.Delete(a.ID)
		err := s.refresh(ctx, a, replaced)
		if err != nil {
			s.refreshed.Store(a.ID, s.now().Add(retryAfter-s.cfg.Policy.AnswerValidity/8))
		}
		if err != nil && ctx.Err() == nil {
			s.cfg.Log.ErrorContext(ctx, "answers could not be refreshed; the old ones stand until they expire", slog.String("authority", string(a.ID)), slog.String("error", err.Error()))
		}
	}()
	return nil
}

// refresh makes a new base, page by page: it may hold millions. Deltas that appear while it signs stay above it, so a
// revocation is never covered by an older answer.
func (s *Service) refresh(ctx context.Context, a bulkhead.Authority, replaced []pack.ObjectRef) error {
	from := s.now().Add(-s.cfg.Policy.KeepExpired)
	rows, err := s.cfg.Store.StatusPage(ctx, a.ID, bulkhead.Serial{}, from, batchSize)
	if err != nil {
		return err
	}
	var base []pack.ObjectRef
	if len(rows) > 0 {
		id, err := ocsp.NewIssuer(a.Subject, a.SPKI)
		if err != nil {
			return err
		}
		ref, err := s.writePack(ctx, a.ID, id, func(w *pack.Writer) error { return s.writeBase(ctx, a, rows, from, w) })
		if err != nil {
			return err
		}
		base = []pack.ObjectRef{ref}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.load(ctx); err != nil {
		return err
	}
	next := clone(s.head)
	ih := issuerHead(next, a.ID)
	ih.Packs = append(newer(ih.Packs, replaced), base...)
	ih.Generation++
	return s.put(ctx, next, nil)
}

// writeBase signs rows, and every page of the record after them, into a pack.
func (s *Service) writeBase(ctx context.Context, a bulkhead.Authority, rows []bulkhead.Status, from time.Time, w *pack.Writer) error {
	for len(rows) > 0 {
		var t responderTable
		entries, err := s.signRows(ctx, a, rows, &t)
		if err != nil {
			return err
		}
		if err := addAll(w, entries, t); err != nil {
			return err
		}
		if rows, err = s.cfg.Store.StatusPage(ctx, a.ID, rows[len(rows)-1].Serial, from, batchSize); err != nil {
			return err
		}
	}
	return nil
}

// addAll adds answers to a pack, in ascending order of serials, with the certificates of their responders.
func addAll(w *pack.Writer, entries []pack.Entry, t responderTable) error {
	index := make([]int, len(t.certs))
	for i, c := range t.certs {
		n, err := w.AddResponder(c)
		if err != nil {
			return err
		}
		index[i] = n
	}
	for _, e := range entries {
		e.Responder = index[e.Responder]
		if err := w.Add(e); err != nil {
			return err
		}
	}
	return nil
}

// newer returns the packs that came after those replaced: deltas published while the refresh was signing.
func newer(now, replaced []pack.ObjectRef) []pack.ObjectRef {
	var keep []pack.ObjectRef
	for _, ref := range now {
		gone := false
		for _, r := range replaced {
			gone = gone || r.Name == ref.Name
		}
		if !gone {
			keep = append(keep, ref)
		}
	}
	return keep
}
