package status

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

// Exhibit is one certificate as a relying party meets it: what it trusts, and what it fetched. Everything is DER.
type Exhibit struct {
	Ref         bulkhead.CertificateRef
	Issuer      []byte    // certificate of the authority, trusted
	Answers     [2][]byte // OCSP responses for the SHA-1 and the SHA-256 CertID
	Certificate []byte    // nil when none is known; the CRL is then not asked
	CRL         []byte    // of the certificate's shard; nil when none is published
	At          time.Time // the moment of looking, for verifiers whose clock can be set
}

// Verdict is what a verifier makes of one source.
type Verdict string

// Verdicts.
const (
	VerdictGood    Verdict = "good"
	VerdictRevoked Verdict = "revoked"
	VerdictRefused Verdict = "refused"  // it does not believe it: signature, dates, form
	VerdictNotSeen Verdict = "not seen" // it did not run, or not to its end; never taken for good
)

// Opinion is a verdict on one source of an exhibit.
type Opinion struct {
	Source  string // "OCSP (SHA-1)", "OCSP (SHA-256)" or "CRL"
	Verdict Verdict
	Detail  string // for a person, when the verdict is refused or not seen
}

// Verifier judges as one program of the world would. Look is bounded in time and in memory.
type Verifier interface {
	Name() string
	Look(ctx context.Context, e Exhibit) []Opinion
}

const (
	lookTimeout   = 20 * time.Second // of all verifiers together: an automatic rollback is due within 60 s
	perChange     = 16               // targets of one authority that are looked at, at most
	corpusPages   = 10               // pages of the record that are looked through for a live certificate
	corpusMargin  = time.Hour        // a certificate that ends sooner is no part of the corpus
	alarmCanary   = "status-canary"
	runbookCanary = "status-canary.md"
)

// expectation is what the world must say of a certificate.
type expectation struct {
	ref    bulkhead.CertificateRef
	want   bulkhead.CertificateState
	target bool // an item of the change
}

// looked is what verifiers made of a set of certificates.
type looked struct {
	certificates int
	targets      int
	said         map[string]int            // by verifier: opinions as expected
	wrong        []bulkhead.CertificateRef // good was expected of a bystander, and revoked is what a verifier says
	bad          []string                  // anything else that is not as expected
	unseen       []string
}

func (l *looked) detail() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d certificates of the change and %d bystanders looked at", l.targets, l.certificates-l.targets)
	names := make([]string, 0, len(l.said))
	for n := range l.said {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		fmt.Fprintf(&b, "; %s agrees %d times", n, l.said[n])
	}
	for _, ref := range l.wrong {
		fmt.Fprintf(&b, "; REVOKED outside the change: %s", ref)
	}
	for _, t := range slices.Concat(l.bad, l.unseen) {
		b.WriteString("; " + t)
	}
	return clip(b.String())
}

// clip keeps a detail within what a leaf holds.
func clip(text string) string {
	const most = 4000
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " …"
	}
	return text
}

// gated reports whether foreign verifiers look before the change is public.
func (s *Service) gated(c bulkhead.Change) bool {
	return c.Count > s.cfg.Policy.OnePerson || c.TakesBack()
}

// canary has the staged copy served by one responder and looked at by foreign verifiers, where the change is large
// enough; smaller ones are looked at once they are public. KindGate when a verifier says something else than the change,
// KindUnavailable when one could not look: what was not seen is not taken for good. Callers hold mu.
func (s *Service) canary(ctx context.Context, st *staging, next *pack.Head, signed []byte) error {
	c := st.change
	expected, err := s.expectations(ctx, c, next, func(a bulkhead.AffectedStatus) bulkhead.CertificateState { return st.after(a).State })
	if err != nil {
		return err
	}
	var bystanders []bulkhead.CertificateRef
	for _, e := range expected {
		if !e.target {
			bystanders = append(bystanders, e.ref)
		}
	}
	s.corpora.Store(c.ID, bystanders)
	if len(s.cfg.Verifiers) == 0 || !s.gated(c) {
		return nil
	}
	var answers Answerer = &packs{s: s, head: next}
	if s.cfg.Edges != nil {
		edge, done, err := s.cfg.Edges.Staged(ctx, signed)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindGate, "no edge serves the staged copy of change %s: %s", c.ID, bulkhead.AsFault(err).Detail).WithHint("bulkhead change show " + c.ID).WithCause(err)
		}
		defer done()
		answers = edge
	}
	l, err := s.examine(ctx, next, answers, expected)
	if err != nil {
		return err
	}
	detail := l.detail()
	if why := l.objection(c); why != nil {
		s.alarm(ctx, bulkhead.Alarm{Detector: alarmCanary, Key: c.ID, Severity: bulkhead.Critical, Runbook: runbookCanary, Message: "nothing of change " + c.ID + " is public: " + bulkhead.AsFault(why).Detail})
		return why
	}
	ev := s.leaf(bulkhead.EvChangeCanary, c, "role:status", detail)
	ev.Count = int64(l.certificates)
	_, err = s.cfg.Store.AppendEvidence(ctx, ev)
	return err
}

// objection is why the change must not become public.
func (l *looked) objection(c bulkhead.Change) error {
	hint := "look at " + bulkhead.RunbookPage(runbookCanary) + "; to give up: bulkhead change rollback " + c.ID
	switch {
	case len(l.wrong) > 0:
		return bulkhead.Faultf(bulkhead.KindGate, "change %s would make %s say revoked, which it does not name: %s", c.ID, l.wrong[0], l.detail()).WithHint(hint)
	case len(l.bad) > 0:
		return bulkhead.Faultf(bulkhead.KindGate, "a verifier does not agree with change %s: %s", c.ID, l.bad[0]).WithHint(hint)
	case len(l.unseen) > 0:
		return bulkhead.Faultf(bulkhead.KindUnavailable, "change %s was not seen by every verifier: %s", c.ID, l.unseen[0]).
			WithHint("bulkhead doctor; install what is missing, or take it out of status.verifiers")
	}
	return nil
}

// expectations are some of the change's own certificates under each authority, and bystanders of every authority: live
// certificates that the change does not name.
func (s *Service) expectations(ctx context.Context, c bulkhead.Change, h *pack.Head, after func(bulkhead.AffectedStatus) bulkhead.CertificateState) ([]expectation, error) {
	authorities, err := s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var out []expectation
	for _, a := range authorities {
		ih := h.Issuer(a.ID)
		if ih == nil || !a.Served() {
			continue
		}
		items, err := s.sampleItems(ctx, c.ID, a.ID)
		if err != nil {
			return nil, err
		}
		serials := make([]bulkhead.Serial, len(items))
		for i, it := range items {
			serials[i] = it.Serial
		}
		rows, err := s.rows(ctx, a.ID, serials)
		if err != nil {
			return nil, err
		}
		for _, it := range items {
			if rows[it.Serial].NotAfter.Before(s.now().Add(corpusMargin)) {
				continue // nobody looks at the status of what has ended
			}
			out = append(out, expectation{ref: it.CertificateRef, want: after(bulkhead.AffectedStatus{Status: rows[it.Serial], Item: it}), target: true})
		}
		refs, err := s.bystanders(ctx, c.ID, a.ID, ih.ThroughSeq)
		if err != nil {
			return nil, err
		}
		for _, ref := range refs {
			out = append(out, expectation{ref: ref, want: bulkhead.Issued})
		}
	}
	return out, nil
}

// sampleItems takes items of a change under an authority: all of a few, else some from its beginning and some from a
// place that nobody can foresee.
func (s *Service) sampleItems(ctx context.Context, id string, issuer bulkhead.AuthorityID) ([]bulkhead.ChangeItem, error) {
	var out []bulkhead.ChangeItem
	for _, from := range []bulkhead.Serial{{}, s.anySerial()} {
		page, err := s.cfg.Store.ChangeItems(ctx, id, bulkhead.CertificateRef{Issuer: issuer, Serial: from}, perChange/2)
		if err != nil {
			return nil, err
		}
		for _, it := range page {
			if it.Issuer == issuer && !slices.ContainsFunc(out, func(x bulkhead.ChangeItem) bool { return x.CertificateRef == it.CertificateRef }) {
				out = append(out, it)
			}
		}
	}
	return out, nil
}

// anySerial is a point in the space of serials as we make them.
func (s *Service) anySerial() bulkhead.Serial {
	var b [16]byte
	_, _ = io.ReadFull(s.cfg.Rand, b[:]) // without randomness it is the beginning
	b[0] &= 0x7f
	serial, err := bulkhead.SerialFromBytes(b[:])
	if err != nil {
		return bulkhead.Serial{}
	}
	return serial
}

// bystanders finds live certificates of an authority that have answers and that the change does not name: one from a place
// that nobody can foresee, and the first of all.
func (s *Service) bystanders(ctx context.Context, id string, issuer bulkhead.AuthorityID, through int64) ([]bulkhead.CertificateRef, error) {
	var out []bulkhead.CertificateRef
	for _, after := range []bulkhead.Serial{s.anySerial(), {}} {
		ref, ok, err := s.bystander(ctx, id, issuer, after, through)
		if err != nil {
			return nil, err
		}
		if ok && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out, nil
}

func (s *Service) bystander(ctx context.Context, id string, issuer bulkhead.AuthorityID, after bulkhead.Serial, through int64) (bulkhead.CertificateRef, bool, error) {
	for range corpusPages {
		page, err := s.cfg.Store.StatusPage(ctx, issuer, after, s.now().Add(corpusMargin), 100)
		if err != nil {
			return bulkhead.CertificateRef{}, false, err
		}
		for _, row := range page {
			if row.State != bulkhead.Issued || row.Seq > through {
				continue
			}
			named, err := s.isItem(ctx, id, row.CertificateRef)
			if err != nil {
				return bulkhead.CertificateRef{}, false, err
			}
			if !named {
				return row.CertificateRef, true, nil
			}
		}
		if len(page) == 0 {
			break
		}
		after = page[len(page)-1].Serial
	}
	return bulkhead.CertificateRef{}, false, nil
}

// isItem reports whether a change names a certificate.
func (s *Service) isItem(ctx context.Context, id string, ref bulkhead.CertificateRef) (bool, error) {
	b := ref.Serial.Fixed()
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]--; b[i] != 0xff {
			break
		}
	}
	below, err := bulkhead.SerialFromBytes(b[:])
	if err != nil {
		below = bulkhead.Serial{}
	}
	page, err := s.cfg.Store.ChangeItems(ctx, id, bulkhead.CertificateRef{Issuer: ref.Issuer, Serial: below}, 1)
	return err == nil && len(page) == 1 && page[0].CertificateRef == ref, err
}

// examine has every verifier look at every certificate, through answers and the CRLs that the head names.
func (s *Service) examine(ctx context.Context, h *pack.Head, answers Answerer, expected []expectation) (*looked, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	l := &looked{certificates: len(expected), said: map[string]int{}}
	x := &exhibitor{s: s, head: h, answers: answers, crls: map[string][]byte{}}
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(4)
	for _, e := range expected {
		if e.target {
			l.targets++
		}
		exhibit, err := x.exhibit(ctx, e.ref)
		if err != nil {
			return nil, err
		}
		for _, v := range s.cfg.Verifiers {
			g.Go(func() error {
				opinions := v.Look(ctx, exhibit)
				mu.Lock()
				defer mu.Unlock()
				l.add(v.Name(), e, opinions)
				return nil
			})
		}
	}
	_ = g.Wait() // nothing there returns an error
	slices.SortFunc(l.wrong, func(a, b bulkhead.CertificateRef) int { return strings.Compare(a.String(), b.String()) })
	l.wrong = slices.Compact(l.wrong)
	slices.Sort(l.bad)
	slices.Sort(l.unseen)
	return l, nil
}

func (l *looked) add(name string, e expectation, opinions []Opinion) {
	want := VerdictGood
	if e.want == bulkhead.Revoked {
		want = VerdictRevoked
	}
	if len(opinions) == 0 {
		opinions = []Opinion{{Source: "nothing", Verdict: VerdictNotSeen, Detail: "it said nothing"}}
	}
	for _, o := range opinions {
		switch {
		case o.Verdict == want:
			l.said[name]++
		case o.Verdict == VerdictNotSeen:
			l.unseen = append(l.unseen, fmt.Sprintf("%s did not see the %s of %s: %s", name, o.Source, e.ref, o.Detail))
		case o.Verdict == VerdictRevoked && !e.target:
			l.wrong = append(l.wrong, e.ref)
			l.bad = append(l.bad, fmt.Sprintf("%s takes the %s of %s for revoked, which nothing revokes", name, o.Source, e.ref))
		default:
			l.bad = append(l.bad, strings.TrimSuffix(fmt.Sprintf("%s takes the %s of %s for %s, not %s: %s", name, o.Source, e.ref, o.Verdict, want, o.Detail), ": "))
		}
	}
}

// exhibitor gathers what relying parties fetch.
type exhibitor struct {
	s       *Service
	head    *pack.Head
	answers Answerer
	crls    map[string][]byte // by object name
}

func (x *exhibitor) exhibit(ctx context.Context, ref bulkhead.CertificateRef) (Exhibit, error) {
	e := Exhibit{Ref: ref, At: x.s.now()}
	row, der, err := x.s.cfg.Store.Certificate(ctx, ref)
	if err != nil {
		return e, err
	}
	ih := x.head.Issuer(ref.Issuer)
	if ih == nil {
		return e, fmt.Errorf("the head does not name authority %s", ref.Issuer)
	}
	if e.Issuer, err = x.object(ctx, ih.Certificate); err != nil {
		return e, err
	}
	issuer, err := x509.ParseCertificate(e.Issuer)
	if err != nil {
		return e, err
	}
	id, err := ocsp.NewIssuer(issuer.RawSubject, issuer.RawSubjectPublicKeyInfo)
	if err != nil {
		return e, err
	}
	for i, hash := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
		req, err := ocsp.EncodeRequest([]ocsp.CertID{id.CertID(hash, ref.Serial)}, nil)
		if err != nil {
			return e, err
		}
		if e.Answers[i], err = x.answers.Answer(ctx, req); err != nil {
			return e, err
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil || len(cert.CRLDistributionPoints) == 0 {
		return e, nil // nobody asks a CRL about a certificate that names none: a delegate, or a row without a certificate
	}
	e.Certificate = der
	if list := crlOf(ih, row.Shard); list != nil {
		e.CRL, err = x.object(ctx, list.ObjectRef)
	}
	return e, err
}

// object reads a small object of the head, once.
func (x *exhibitor) object(ctx context.Context, ref pack.ObjectRef) ([]byte, error) {
	if body, ok := x.crls[ref.Name]; ok {
		return body, nil
	}
	body, err := x.s.cfg.Objects.Get(ctx, ref.Name)
	if err != nil {
		return nil, err
	}
	if bulkhead.Digest(body) != ref.Digest {
		return nil, fmt.Errorf("object %s is not what the head names", ref.Name)
	}
	x.crls[ref.Name] = body
	return body, nil
}

// packs answers from the packs that a head names, as they lie in the object store.
type packs struct {
	s    *Service
	head *pack.Head
	open map[string]*pack.Pack
}

var errNoAnswer = errors.New("no pack answers")

// Answer implements Answerer.
func (p *packs) Answer(ctx context.Context, request []byte) ([]byte, error) {
	req, err := ocsp.ParseRequest(request, 1)
	if err != nil {
		return nil, err
	}
	id := req.CertIDs[0]
	key := id.Serial.Fixed()
	for i := range p.head.Issuers {
		for _, ref := range p.head.Issuers[i].Packs {
			pk := p.open[ref.Name]
			if pk == nil {
				if pk, err = p.s.openPack(ctx, ref); err != nil {
					return nil, err
				}
				if p.open == nil {
					p.open = map[string]*pack.Pack{}
				}
				p.open[ref.Name] = pk
			}
			if !of(pk.Issuer(), id) {
				break // every pack of an authority is of one issuer
			}
			var f pack.Found
			ok, err := pk.FindHash(&key, id.Hash, &f)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", ref.Name, err)
			}
			if ok {
				return ocsp.Assemble(f.TBS, f.Signature, f.Responder), nil
			}
		}
	}
	return nil, fmt.Errorf("%w for serial %s", errNoAnswer, id.Serial)
}

// of reports whether a CertID names the issuer.
func of(i pack.Identity, id ocsp.CertID) bool {
	if id.Hash == ocsp.SHA1 {
		return bytes.Equal(i.NameSHA1[:], id.NameHash) && bytes.Equal(i.KeySHA1[:], id.KeyHash)
	}
	return id.Hash == ocsp.SHA256 && bytes.Equal(i.NameSHA256[:], id.NameHash) && bytes.Equal(i.KeySHA256[:], id.KeyHash)
}

func (s *Service) alarm(ctx context.Context, a bulkhead.Alarm) {
	s.cfg.Log.ErrorContext(ctx, a.Message, slog.String("alarm", a.Detector), slog.String("change", a.Key))
	if s.cfg.Alarm != nil {
		s.cfg.Alarm(ctx, a)
	}
}
