package lint

import (
	"crypto/x509"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	zx509 "github.com/zmap/zcrypto/x509"
)

// Most of what a leaf says is what the one before it said: issuer, algorithms, and every extension but its names and the
// identifier of its key. That is its frame. More than half of the library's rules read nothing else, and of most others
// what decides whether they apply reads nothing else (frame_rules.go, proved from their source by TestFrameRules). What the former
// found in one certificate they find in each with the same frame, octet for octet, and whether the latter apply is the
// same too. Both are asked once for each frame. Some rules read the frame and the dates, which a busy house gives to all
// certificates of a second; they are run again when the dates are others. Every other rule that applies, and every one of which that is
// not known, is run for every certificate.

func ruleNames(list string) map[string]bool {
	out := map[string]bool{}
	for n := range strings.SplitSeq(strings.Trim(list, "\n"), "\n") {
		out[n] = true
	}
	return out
}

// library runs the rules of the library.
func (r rules) library(cert *x509.Certificate, set Set) ([]Finding, error) {
	o, ok := outlined(cert)
	if !ok || set == SetRoot { // a root's frame has its signature in it
		c, err := parsed(cert, set)
		if err != nil {
			return nil, err
		}
		speaks := sourcesOf(c)
		var found []Finding
		for _, l := range r.certificate {
			found = l.findings(found, execute(l, c, speaks))
		}
		return found, nil
	}
	blank := len(cert.RawSubject) == 2 // an empty SEQUENCE: the subject of every certificate that names only in its extension
	key := o.key(r.era(cert.NotBefore), blank)
	p := r.memory.recall(key)
	var c *zx509.Certificate
	if p != nil {
		c = p.likeness(cert, o)
	}
	if c == nil {
		var err error
		if c, err = parsed(cert, set); err != nil {
			return nil, err
		}
	}
	if p == nil {
		p = r.plan(c, blank)
		r.memory.keep(key, p)
	}
	return runAll(slices.Concat(p.found, p.foundByDates(c, o)), p.steps, c), nil
}

func runAll(found []Finding, steps []step, c *zx509.Certificate) []Finding {
	for _, s := range steps {
		found = s.findings(found, s.run(c))
	}
	return found
}

func parsed(cert *x509.Certificate, set Set) (*zx509.Certificate, error) {
	c, err := zx509.ParseCertificate(cert.Raw)
	if err != nil {
		return nil, malformed("certificate", err)
	}
	if set == SetRoot {
		c.SelfSigned = true // zcrypto looks at the signature, which on a twin is a throw-away key's
	}
	return c, nil
}

// plan is what the rules say to a frame.
type plan struct {
	like  zx509.Certificate // one of the frame, as its parser left it
	found []Finding         // by the rules that read nothing else
	dated []step            // those that read the dates too
	steps []step            // the others that may apply
	last  atomic.Pointer[byDates]
}

// byDates is what dated rules found in a certificate with these dates.
type byDates struct {
	dates string
	found []Finding
}

func (p *plan) foundByDates(c *zx509.Certificate, o *outline) []Finding {
	last := p.last.Load()
	if last == nil || last.dates != string(o.dates) {
		last = &byDates{string(o.dates), runAll(nil, p.dated, c)}
		p.last.Store(last)
	}
	return last.found
}

// step is a rule whose sources and dates fit; applies says that it applies whatever the rest of the certificate is.
type step struct {
	certificateRule
	applies bool
}

// plan asks the rules about the frame of c.
func (r rules) plan(c *zx509.Certificate, blank bool) *plan {
	p := &plan{like: *c}
	speaks := sourcesOf(c)
	for _, l := range r.certificate {
		switch {
		case !l.concerns(speaks) || !l.CheckEffective(c):
		case frameRules[l.Name], blank && subjectRules[l.Name]:
			p.found = l.findings(p.found, execute(l, c, speaks))
		case !appliesByFrame[l.Name]:
			p.add(step{l, false})
		case l.Lint().CheckApplies(c):
			p.add(step{l, l.shared != nil}) // another might keep in CheckApplies what Execute needs
		}
	}
	return p
}

func (p *plan) add(s step) {
	if dateRules[s.Name] {
		p.dated = append(p.dated, s)
	} else {
		p.steps = append(p.steps, s)
	}
}

// run is nil when the rule does not apply.
func (s step) run(c *zx509.Certificate) *result {
	if s.applies {
		return s.shared.Execute(c)
	}
	return s.apply(c)
}

// era says between which of the dates of the rules a certificate begins: within one the same rules are in force.
func (r rules) era(notBefore time.Time) int {
	n, _ := slices.BinarySearchFunc(r.dates, notBefore, func(date, t time.Time) int {
		if date.After(t) {
			return 1
		}
		return -1 // one that begins at the date is after it: rules begin and end at the date itself
	})
	return n
}

// datesOf lists when rules begin and end, in order.
func datesOf(all []certificateRule) (dates []time.Time) {
	for _, l := range all {
		for _, t := range []time.Time{l.EffectiveDate, l.IneffectiveDate} {
			if !t.IsZero() {
				dates = append(dates, t)
			}
		}
	}
	slices.SortFunc(dates, time.Time.Compare)
	return slices.CompactFunc(dates, time.Time.Equal)
}

// maxFrames bounds the memory of one set: an issuer, a profile and a CRL shard make one, of some ten kilobytes.
const maxFrames = 1024

// memory holds what the rules say to each frame.
type memory struct {
	mu sync.RWMutex
	of map[string]*plan
}

// recall is nil for a frame that was not seen.
func (m *memory) recall(key []byte) *plan {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.of[string(key)]
}

func (m *memory) keep(key []byte, p *plan) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.of) >= maxFrames {
		clear(m.of)
	}
	m.of[string(key)] = p
}
