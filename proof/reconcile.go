package proof

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"bulkhead"
	"bulkhead/pki/sct"
	"bulkhead/pki/tlog"
)

const (
	maxFindings = 1000 // a record that was overwritten whole would fill memory otherwise
	maxLeads    = 1000
	page        = 1000
	firstParsed = 64 // certificates that are parsed whole, and after them one in 256
)

// Brought is a certificate from outside: from a file, from the wire, from a CT log.
type Brought struct {
	Source string
	DER    []byte
}

// Outside is what other compartments found, in this package's words.
type Outside struct {
	Log       Checkpoint
	Rows      int64
	Uncovered int64
	LogFaults []Finding // of the log itself
	Brought   []Brought
	Unread    []string // inputs that are no certificate
	Witnessed *Witnessed
	CT        []CTLog
}

// Config is what a proof needs.
type Config struct {
	Store       Store
	Book        *Book
	Authorities []bulkhead.Authority // all of the house
	Issuers     []bulkhead.AuthorityID
	All         bool // every key of the house, not only the issuers'
	Hardware    Counter
	// Seen is called for each row that is issued or revoked, once. Optional.
	Seen func(bulkhead.Status)
	// Published is called after the last row: what is wrong with what is public, and how many certificates are answered for or
	// listed there. Optional.
	Published func(ctx context.Context) (found []Finding, answers int64, err error)
	House     string
	Now       time.Time
}

type prover struct {
	cfg     Config
	out     Outside
	report  Report
	rows    map[bulkhead.AuthorityID]int64
	issued  int64
	revoked int64
	pruned  int64
	parsed  int64
	open    int64
	dead    int64
	checked int64
	answers int64
	foreign int64 // imported

	late        []bulkhead.SignedRow // certificates whose announcement may be younger than the book
	judgingLate bool
}

// Prove reconciles. The error is for what kept it from looking; what it found is in the report.
func Prove(ctx context.Context, cfg Config, out Outside) (Report, error) {
	p := &prover{cfg: cfg, out: out, rows: map[bulkhead.AuthorityID]int64{}}
	p.report = Report{MadeAt: cfg.Now.UTC(), House: cfg.House, Issuers: cfg.Issuers, Checkpoint: out.Log, Rows: out.Rows, Uncovered: out.Uncovered,
		Witnessed: out.Witnessed, CT: out.CT,
		Keys: []KeyReport{}, Findings: []Finding{}, Leads: []Lead{}}
	for _, f := range out.LogFaults {
		f.Negative = Infrastructure
		p.find(f)
	}
	if err := p.readValidations(ctx); err != nil {
		return p.report, err
	}
	if err := p.readRows(ctx); err != nil {
		return p.report, err
	}
	for _, id := range cfg.Issuers {
		if err := p.removed(ctx, id); err != nil {
			return p.report, err
		}
	}
	if err := p.published(ctx); err != nil {
		return p.report, err
	}
	if err := p.latecomers(ctx); err != nil {
		return p.report, err
	}
	if err := p.counters(ctx); err != nil {
		return p.report, err
	}
	p.brought()
	if err := p.alarms(ctx); err != nil {
		return p.report, err
	}
	p.report.Negatives = p.negatives()
	p.report.OK = len(p.report.Findings) == 0
	return p.report, nil
}

// published takes what is wrong with what is public.
func (p *prover) published(ctx context.Context) error {
	if p.cfg.Published == nil {
		return nil
	}
	found, answers, err := p.cfg.Published(ctx)
	p.answers = answers
	for _, f := range found {
		f.Negative = RogueCertificates
		if p.selected(f.Issuer) || f.Issuer == "" {
			p.find(f)
		}
	}
	return err
}

func (p *prover) selected(id bulkhead.AuthorityID) bool { return slices.Contains(p.cfg.Issuers, id) }

func (p *prover) find(f Finding) {
	if len(p.report.Findings) >= maxFindings {
		p.report.Omitted++
		return
	}
	p.report.Findings = append(p.report.Findings, f)
}

func (p *prover) about(ref bulkhead.CertificateRef, rule string, seq int64, format string, args ...any) {
	f := Finding{Rule: rule, Negative: RogueCertificates, Issuer: ref.Issuer, Serial: ref.Serial.String(), Message: fmt.Sprintf(format, args...)}
	if seq > 0 {
		leaf := seq - 1
		f.Leaf = &leaf
	}
	p.find(f)
}

// removed judges what the log has of an authority and the rows, all of which were read, have not. Rows were read after the leaves,
// so what is younger than the book is left to the next run.
func (p *prover) removed(ctx context.Context, issuer bulkhead.AuthorityID) error {
	gone, err := p.gone(ctx, issuer)
	if err != nil {
		return err
	}
	for ref, e := range p.cfg.Book.of(issuer) {
		switch {
		case e.abandoned:
			p.dead++
		case e.rowSeen:
		case gone[ref.Serial]:
			p.pruned++
		case e.outcomeSeq > 0:
			p.about(ref, RuleRowRemoved, e.outcomeSeq, "the log says that certificate %s was signed; the record has no row for it", ref)
		default:
			p.about(ref, RuleRowRemoved, e.intentSeq, "the log says that certificate %s was to be signed; the record has no row for it", ref)
		}
	}
	return nil
}

// gone are the serials whose rows went with age.
func (p *prover) gone(ctx context.Context, issuer bulkhead.AuthorityID) (map[bulkhead.Serial]bool, error) {
	out := map[bulkhead.Serial]bool{}
	var after bulkhead.Serial
	for {
		list, err := p.cfg.Store.PrunedAfter(ctx, issuer, after, page)
		if err != nil {
			return nil, err
		}
		for _, s := range list {
			out[s], after = true, s
		}
		if len(list) < page {
			return out, nil
		}
	}
}

// young reports whether the leaf seq, which is younger than the book, is there and speaks of the certificate.
func (p *prover) young(ctx context.Context, seq int64, ref bulkhead.CertificateRef, kind bulkhead.EvidenceKind) (bool, error) {
	if seq <= p.cfg.Book.head {
		return false, nil
	}
	rows, err := p.cfg.Store.EvidenceAfter(ctx, seq-1, 1)
	if err != nil || len(rows) == 0 || rows[0].Seq != seq {
		return false, err
	}
	e, err := tlog.Parse(rows[0].Leaf)
	return err == nil && e.Kind == kind && e.Authority == ref.Issuer && e.Serial == ref.Serial, nil
}

// row holds one row against its leaves.
func (p *prover) row(ctx context.Context, r bulkhead.SignedRow) error {
	if p.cfg.Seen != nil && (r.State == bulkhead.Issued || r.State == bulkhead.Revoked) {
		p.cfg.Seen(r.Status)
	}
	e := p.cfg.Book.entry(r.CertificateRef)
	if e == nil {
		if fresh, err := p.young(ctx, r.IntentSeq, r.CertificateRef, bulkhead.EvCertificateIntent); fresh || err != nil {
			return err // reserved while we looked
		}
	} else if e.outcomeSeq == 0 && (r.State == bulkhead.Issued || r.State == bulkhead.Revoked) {
		fresh, err := p.young(ctx, r.OutcomeSeq, r.CertificateRef, bulkhead.EvCertificateOutcome)
		if err != nil {
			return err
		}
		if e.rowSeen = fresh; fresh {
			p.open++ // signed while we looked
			return nil
		}
	}
	p.judge(r, e)
	return nil
}

func (p *prover) judge(r bulkhead.SignedRow, e *entry) {
	p.rows[r.Issuer]++
	if e == nil {
		p.about(r.CertificateRef, RuleRowWithoutLeaf, 0, "the record has certificate %s (%s, SHA-256 %s); the log has no intent for it", r.CertificateRef, r.State, r.Fingerprint)
		return
	}
	e.rowSeen = true
	if e.imported {
		p.imported(r, e)
		return
	}
	if r.IntentSeq != e.intentSeq || r.KeyHash != e.subject || r.IntentDigest != e.tbs {
		p.about(r.CertificateRef, RuleRowDiffers, e.intentSeq, "the row of certificate %s names another intent or key than leaf %d", r.CertificateRef, e.intentSeq-1)
		return
	}
	signed := r.State == bulkhead.Issued || r.State == bulkhead.Revoked
	switch {
	case signed && e.outcomeSeq == 0:
		p.about(r.CertificateRef, RuleNoOutcome, e.intentSeq, "the record says that certificate %s is %s; the log has no outcome for it", r.CertificateRef, r.State)
		return
	case !signed && e.outcomeSeq > 0:
		p.about(r.CertificateRef, RuleNotIssued, e.outcomeSeq, "the log says that certificate %s was signed; the record says it is %s", r.CertificateRef, r.State)
		return
	case !signed:
		if !e.abandoned {
			p.open++
		}
		return
	}
	p.issued++
	if r.State == bulkhead.Revoked {
		p.revoked++
	}
	p.bytes(r, e)
	if r.OrderID != "" && (r.Kind == bulkhead.LeafCertificate || r.Kind == bulkhead.Precertificate) {
		p.checked++
		// The intent is made beside the look (the signature is not): the outcome is the leaf that the look must precede.
		if at, ok := p.cfg.Book.checks[idOf(r.OrderID)]; !ok || at > e.outcomeSeq {
			f := Finding{Rule: RuleUnchecked, Negative: Registration, Issuer: r.Issuer, Serial: r.Serial.String(), SHA256: r.Fingerprint,
				Message: fmt.Sprintf("certificate %s was signed for order %s, and no CAA check of that order is in the log before its outcome", r.CertificateRef, r.OrderID)}
			leaf := e.intentSeq - 1
			f.Leaf = &leaf
			p.find(f)
		}
		p.founded(r, e)
	}
}

// imported holds the row of a certificate that another house issued against the leaf of its import.
func (p *prover) imported(r bulkhead.SignedRow, e *entry) {
	p.foreign++
	switch {
	case r.IntentSeq != e.intentSeq || r.KeyHash != e.subject:
		p.about(r.CertificateRef, RuleRowDiffers, e.intentSeq, "the row of the imported certificate %s names another leaf or key than leaf %d", r.CertificateRef, e.intentSeq-1)
	case r.Sum != r.Fingerprint || r.Sum != e.digest:
		p.about(r.CertificateRef, RuleOtherBytes, e.intentSeq, "the stored certificate %s has SHA-256 %s, the leaf of its import says %s", r.CertificateRef, r.Sum, e.digest)
	}
}

// bytes holds the stored certificate against the digests in the log, and parses a sample.
func (p *prover) bytes(r bulkhead.SignedRow, e *entry) {
	sum := r.Sum
	switch {
	case r.OutcomeSeq != e.outcomeSeq:
		p.about(r.CertificateRef, RuleRowDiffers, e.outcomeSeq, "the row of certificate %s names another outcome than leaf %d", r.CertificateRef, e.outcomeSeq-1)
	case sum != r.Fingerprint:
		p.about(r.CertificateRef, RuleOtherBytes, e.outcomeSeq, "the stored certificate %s has SHA-256 %s, its row says %s", r.CertificateRef, sum, r.Fingerprint)
	case sum != e.digest && r.Precert == e.digest && !p.finalized(r) && !p.judgingLate:
		p.late = append(p.late, r)
	case sum != e.digest && !(r.Precert == e.digest && p.finalized(r)):
		p.about(r.CertificateRef, RuleOtherBytes, e.outcomeSeq, "the stored certificate %s has SHA-256 %s, the log says %s", r.CertificateRef, sum, e.digest)
	case r.DER != nil && (p.parsed < firstParsed || sum[0] == 0):
		p.parsed++
		x, err := x509.ParseCertificate(r.DER)
		if err != nil {
			p.about(r.CertificateRef, RuleOtherBytes, e.outcomeSeq, "the stored certificate %s cannot be parsed: %s", r.CertificateRef, err)
			return
		}
		if serial, err := bulkhead.SerialFromBig(x.SerialNumber); err != nil || serial != r.Serial || bulkhead.Digest(x.RawSubjectPublicKeyInfo) != e.subject {
			p.about(r.CertificateRef, RuleOtherBytes, e.outcomeSeq, "the stored certificate %s bears another serial or key than its leaf", r.CertificateRef)
		}
	}
}

// maxLate bounds the rows that are read after the book.
const maxLate = 100_000

// latecomers judges the certificates that took the place of a precertificate while we looked, with the leaves that were
// committed since.
func (p *prover) latecomers(ctx context.Context) error {
	for seq, end := p.cfg.Book.head, p.cfg.Book.head+maxLate; len(p.late) > 0 && seq < end; {
		rows, err := p.cfg.Store.EvidenceAfter(ctx, seq, page)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if e, err := tlog.Parse(row.Leaf); err == nil && e.Kind == bulkhead.EvBatchOutcome && !e.Serial.IsZero() {
				p.cfg.Book.finalOf[bulkhead.CertificateRef{Issuer: e.Authority, Serial: e.Serial}] = final{seq: row.Seq, tbs: e.Link}
			}
			seq = row.Seq
		}
		if len(rows) < page {
			break
		}
	}
	p.judgingLate = true
	for _, r := range p.late {
		p.bytes(r, p.cfg.Book.entry(r.CertificateRef))
	}
	return nil
}

// finalized reports whether the certificate that took the place of a precertificate is announced in the log.
func (p *prover) finalized(r bulkhead.SignedRow) bool {
	f, ok := p.cfg.Book.finalOf[r.CertificateRef]
	tbs, okTBS := tbsOf(r.DER)
	return ok && okTBS && f.tbs == tlog.BatchRoot([]bulkhead.Hash{bulkhead.Digest(tbs)})
}

// tbsOf cuts the TBSCertificate out of a certificate.
func tbsOf(der []byte) ([]byte, bool) {
	s := cryptobyte.String(der)
	var outer, tbs cryptobyte.String
	if !s.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1Element(&tbs, cbasn1.SEQUENCE) {
		return nil, false
	}
	return tbs, true
}

// counters holds the leaves of each key against the counter that moved with them, and the device's own.
func (p *prover) counters(ctx context.Context) error {
	b := p.cfg.Book
	first := int64(0) // the first leaf that any counter stands for
	for _, since := range b.since {
		if first == 0 || since < first {
			first = since
		}
	}
	keys := slices.SortedFunc(maps.Keys(b.uses), func(x, y bulkhead.Hash) int { return slices.Compare(x[:], y[:]) })
	for _, key := range keys {
		k := b.uses[key]
		if !p.cfg.All && !p.selected(k.Authority) {
			continue
		}
		k.Role = p.role(key, k.Authority)
		if _, ok := b.since[key]; !ok && first > 0 && k.LastLeaf+1 >= first && k.FirstLeaf < b.cutoff {
			p.find(Finding{Rule: RuleCounterMissing, Negative: p.keyNegative(k.Authority), Issuer: k.Authority, Key: key,
				Message: fmt.Sprintf("the counter of key %s is gone; the log has %d signatures by it", key, k.Made)})
		}
		if p.cfg.Hardware != nil {
			n, err := p.cfg.Hardware.Uses(ctx, key)
			switch {
			case bulkhead.KindOf(err) == bulkhead.KindNotFound:
			case err != nil:
				return err
			default:
				k.Hardware = &n
				if n > k.Announced {
					p.find(Finding{Rule: RuleHardware, Negative: p.keyNegative(k.Authority), Issuer: k.Authority, Key: key,
						Message: fmt.Sprintf("the device says that key %s was used %d times; the log announces %d signatures", key, n, k.Announced)})
				}
			}
		}
	}
	for _, c := range b.given {
		p.counter(c)
	}
	for _, key := range keys {
		if k := b.uses[key]; p.cfg.All || p.selected(k.Authority) {
			p.report.Keys = append(p.report.Keys, k.KeyReport)
		}
	}
	return nil
}

// counter compares one counter with the same count over the leaves.
func (p *prover) counter(c bulkhead.SignatureCounter) {
	b := p.cfg.Book
	k, known := b.uses[c.Key]
	if known && !p.cfg.All && !p.selected(k.Authority) {
		return
	}
	var leaves bulkhead.SignatureCounter
	if known {
		leaves = k.counted
	}
	f := Finding{Negative: IssuingKey, Key: c.Key}
	if known {
		k.Counter = &CounterReport{Announced: c.Announced, Made: c.Made, SinceLeaf: c.Since - 1}
		f.Issuer, f.Negative = k.Authority, p.keyNegative(k.Authority)
	}
	switch {
	case c.Made > leaves.Made || c.Announced > leaves.Announced:
		f.Rule = RuleCounterAhead
		f.Message = fmt.Sprintf("key %s was used %d times by its counter (%d announced); the log explains %d (%d announced)", c.Key, c.Made, c.Announced, leaves.Made, leaves.Announced)
	case c.Made < leaves.Made || c.Announced < leaves.Announced:
		f.Rule = RuleCounterBehind
		f.Message = fmt.Sprintf("the log has %d signatures by key %s (%d announced); its counter says %d (%d announced)", leaves.Made, c.Key, leaves.Announced, c.Made, c.Announced)
	default:
		return
	}
	p.find(f)
}

// role says in words what a key is for.
func (p *prover) role(key bulkhead.Hash, of bulkhead.AuthorityID) string {
	for _, a := range p.cfg.Authorities {
		if bulkhead.Digest(a.SPKI) == key {
			return string(a.Kind) + " authority"
		}
	}
	if of == "" {
		return "the house's own"
	}
	return "delegate"
}

func (p *prover) keyNegative(id bulkhead.AuthorityID) string {
	if p.kind(id) == bulkhead.RootAuthority {
		return RootKey
	}
	return IssuingKey
}

func (p *prover) kind(id bulkhead.AuthorityID) bulkhead.AuthorityKind {
	for _, a := range p.cfg.Authorities {
		if a.ID == id {
			return a.Kind
		}
	}
	return ""
}

// brought judges certificates from outside: one that our key signed and no leaf speaks of is the rogue one.
func (p *prover) brought() {
	for _, text := range p.out.Unread {
		p.lead(Lead{Detector: "D2", Message: "not a certificate, and not judged: " + text, At: p.report.MadeAt, Count: 1})
	}
	seen := map[bulkhead.Hash]bool{}
	for _, c := range p.out.Brought {
		sum := bulkhead.Digest(c.DER)
		if seen[sum] {
			continue
		}
		seen[sum] = true
		x, err := x509.ParseCertificate(c.DER)
		if err != nil {
			p.lead(Lead{Detector: "D2", Message: c.Source + ": not a certificate that can be read, and not judged", At: p.report.MadeAt, Count: 1})
			continue
		}
		a, ours := p.signerOf(x)
		switch {
		case a == nil || !p.selected(a.ID):
		case !ours:
			p.lead(Lead{Detector: "D2", At: p.report.MadeAt, Count: 1,
				Message: fmt.Sprintf("%s: SHA-256 %s bears the name of %s as its issuer and no signature by its key: somebody else made it", c.Source, sum, a.ID)})
		case !p.known(a.ID, x, sum):
			serial, _ := bulkhead.SerialFromBig(x.SerialNumber)
			p.find(Finding{Rule: RuleRogue, Negative: RogueCertificates, Issuer: a.ID, Serial: serial.String(), SHA256: sum, Key: bulkhead.Digest(a.SPKI), Source: c.Source,
				Message: fmt.Sprintf("%s: the key of %s signed certificate %s for %s, SHA-256 %s; no leaf of the log speaks of it", c.Source, a.ID, serial, subjectOf(x), sum)})
		}
	}
}

// signerOf finds the authority whose name and key made x: ours is false when only the name fits. A name may belong to
// several keys, so all are asked.
func (p *prover) signerOf(x *x509.Certificate) (a *bulkhead.Authority, ours bool) {
	for i := range p.cfg.Authorities {
		c := &p.cfg.Authorities[i]
		if string(c.Subject) != string(x.RawIssuer) {
			continue
		}
		a = c
		pub, err := x509.ParsePKIXPublicKey(c.SPKI)
		if err != nil {
			continue
		}
		parent := x509.Certificate{PublicKey: pub, PublicKeyAlgorithm: algorithmOf(pub)}
		if parent.CheckSignature(x.SignatureAlgorithm, x.RawTBSCertificate, x.Signature) == nil {
			return c, true
		}
	}
	return a, false
}

// known reports whether the log speaks of exactly this certificate, of its precertificate or as either.
func (p *prover) known(id bulkhead.AuthorityID, x *x509.Certificate, sum bulkhead.Hash) bool {
	serial, err := bulkhead.SerialFromBig(x.SerialNumber)
	if err != nil {
		return false
	}
	ref := bulkhead.CertificateRef{Issuer: id, Serial: serial}
	e := p.cfg.Book.entry(ref)
	if e == nil {
		return x.IsCA && p.trustAnchor(x)
	}
	if e.outcomeSeq > 0 && e.digest == sum {
		return true
	}
	f, ok := p.cfg.Book.finalOf[ref]
	if _, poisoned, err := sct.Bare(x.RawTBSCertificate); err == nil && poisoned && !ok {
		return false
	}
	return ok && f.tbs == tlog.BatchRoot([]bulkhead.Hash{bulkhead.Digest(x.RawTBSCertificate)})
}

// trustAnchor: a root's own certificate is no row of anybody's; it is one of the house's authorities.
func (p *prover) trustAnchor(x *x509.Certificate) bool {
	for _, a := range p.cfg.Authorities {
		if string(a.Certificate) == string(x.Raw) {
			return true
		}
	}
	return false
}

func subjectOf(x *x509.Certificate) string {
	if len(x.DNSNames) > 0 {
		return strings.Join(x.DNSNames[:min(len(x.DNSNames), 5)], ", ")
	}
	if s := x.Subject.String(); s != "" {
		return s
	}
	return "nobody"
}

func (p *prover) lead(l Lead) {
	if len(p.report.Leads) < maxLeads {
		p.report.Leads = append(p.report.Leads, l)
	}
}

// alarms turns what detectors saw into findings and leads. Somebody who asks for a serial that was never issued may have
// a rogue certificate in front of him or may have made the number up: a lead.
func (p *prover) alarms(ctx context.Context) error {
	for _, detector := range []string{"D1", "D2", "D5", "D10", "evidence-fork"} {
		list, err := p.cfg.Store.AlarmsOf(ctx, detector, maxLeads)
		if err != nil {
			return err
		}
		for _, a := range list {
			issuer, rest, _ := strings.Cut(a.Key, ",")
			id := bulkhead.AuthorityID(issuer)
			switch detector {
			case "D1":
				serial, err := bulkhead.ParseSerial(rest)
				e := p.cfg.Book.entry(bulkhead.CertificateRef{Issuer: id, Serial: serial})
				if err != nil || !p.selected(id) || e != nil && e.outcomeSeq > 0 {
					continue
				}
			case "D2":
				if p.unknown(a, id, rest) {
					continue
				}
			}
			p.lead(Lead{Detector: detector, Message: a.Message, At: a.FirstAt, Count: a.Count})
		}
	}
	return nil
}

// unknown takes an alarm about a certificate that a key of ours signed and the record did not know, in a transparency log or on
// the wire; false for what is none, such as a log that could not be read. Alarms of an older release name no issuer.
func (p *prover) unknown(a bulkhead.Alarm, id bulkhead.AuthorityID, rest string) bool {
	if rest == "" {
		id, rest = "", a.Key
	}
	sum, err := bulkhead.ParseHash(rest)
	if err != nil {
		return false
	}
	if id == "" && p.cfg.All || p.selected(id) && !p.explained(id, rest) {
		p.find(Finding{Rule: RuleSeen, Negative: RogueCertificates, Issuer: id, SHA256: sum, Source: "D2", Message: a.Message})
	}
	return true
}

// explained: the same certificate is a finding already, from a file.
func (p *prover) explained(id bulkhead.AuthorityID, sum string) bool {
	return slices.ContainsFunc(p.report.Findings, func(f Finding) bool { return f.Rule == RuleRogue && f.Issuer == id && f.SHA256.String() == sum })
}

func algorithmOf(pub any) x509.PublicKeyAlgorithm {
	switch pub.(type) {
	case *rsa.PublicKey:
		return x509.RSA
	case *ecdsa.PublicKey:
		return x509.ECDSA
	case ed25519.PublicKey:
		return x509.Ed25519
	}
	return x509.UnknownPublicKeyAlgorithm
}
