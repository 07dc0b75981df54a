package tlog

import (
	"fmt"

	"bulkhead"
)

// Rules that a Ledger checks. Each names one way in which a log speaks against its writer.
const (
	RuleTwoIntents       = "two-intents"                   // a second intent for one authority and serial
	RuleTwoOutcomes      = "two-outcomes"                  // a second outcome for one authority and serial
	RuleNoIntent         = "outcome-without-intent"        // no intent before the outcome
	RuleOtherIntent      = "outcome-of-other-intent"       // the outcome's Link or Signer is not that of its intent
	RuleAbandon          = "abandon-without-intent"        // nothing to abandon, or another intent's digest
	RuleAfterEnd         = "signed-after-abandon"          // outcome after abandon, or abandon after outcome
	RuleTwoBatchIntents  = "two-batch-intents"             // a second intent for one batch
	RuleTwoBatchOutcomes = "two-batch-outcomes"            // a second outcome for one batch
	RuleNoBatchIntent    = "batch-outcome-without-intent"  // no intent before the batch's outcome
	RuleOtherBatchIntent = "batch-outcome-of-other-intent" // Link, Count or Signer differ
	RuleIncomplete       = "leaf-incomplete"               // a field that the kind needs is empty
)

// Violation is one broken rule at one leaf.
type Violation struct {
	Rule    string
	Index   int64 // leaf index, from 0
	Message string
}

// KeyCount says how often a key was used, by its leaves.
type KeyCount struct {
	Certificates    int64 // certificate outcomes
	Batches         int64 // batch outcomes
	BatchSignatures int64 // sum of their counts
	Open            int64 // intents without outcome or abandonment so far; batches count once
}

// Signatures is the sum that the key's own counter must show, open intents aside.
func (c KeyCount) Signatures() int64 { return c.Certificates + c.BatchSignatures }

// Ledger follows the leaves of a log in order and checks that every signature was announced: each outcome has its
// intent before it, and no authority and serial has two of either. It keeps about 150 bytes per certificate.
// A Ledger belongs to one goroutine.
type Ledger struct {
	certificates map[bulkhead.AuthorityID]map[bulkhead.Serial]int32 // number in entries
	entries      []entry                                            // of certificates; holds no pointer, so that nobody walks a million of them
	batches      map[string]*entry
	keys         map[bulkhead.Hash]*KeyCount
	kinds        []int64 // by kind
	last         bulkhead.Hash
	lastKey      *KeyCount // of last: most leaves name the key of the leaf before
}

// entry is what the ledger remembers of an intent.
type entry struct {
	intent, signer bulkhead.Hash
	count          int64
	window         bool // of a live window: count is the most that may be signed
	state          uint8
}

const (
	announced uint8 = iota
	done
	abandoned
)

// NewLedger starts at the beginning of a log.
func NewLedger() *Ledger {
	return &Ledger{
		certificates: make(map[bulkhead.AuthorityID]map[bulkhead.Serial]int32), batches: make(map[string]*entry),
		keys: make(map[bulkhead.Hash]*KeyCount),
	}
}

// Add takes the next leaf and returns what it breaks, nil when nothing.
func (l *Ledger) Add(index int64, e bulkhead.Evidence) []Violation {
	for int(e.Kind) >= len(l.kinds) {
		l.kinds = append(l.kinds, 0)
	}
	l.kinds[e.Kind]++
	rule, message := "", ""
	switch e.Kind {
	case bulkhead.EvCertificateIntent:
		rule, message = l.intent(e)
	case bulkhead.EvCertificateOutcome:
		rule, message = l.outcome(e)
	case bulkhead.EvCertificateAbandon:
		rule, message = l.abandon(e)
	case bulkhead.EvBatchIntent, bulkhead.EvLiveWindow:
		rule, message = l.batchIntent(e)
	case bulkhead.EvBatchOutcome, bulkhead.EvLiveOutcome:
		rule, message = l.batchOutcome(e)
	}
	if rule == "" {
		return nil
	}
	return []Violation{{Rule: rule, Index: index, Message: message}}
}

// Keys returns the counts per signing key (SHA-256 of its SPKI).
func (l *Ledger) Keys() map[bulkhead.Hash]KeyCount {
	out := make(map[bulkhead.Hash]KeyCount, len(l.keys))
	for k, c := range l.keys {
		out[k] = *c
	}
	return out
}

// Kinds returns how many leaves of each kind were seen.
func (l *Ledger) Kinds() map[bulkhead.EvidenceKind]int64 {
	out := map[bulkhead.EvidenceKind]int64{}
	for k, n := range l.kinds {
		if n > 0 {
			out[bulkhead.EvidenceKind(k)] = n
		}
	}
	return out
}

func (l *Ledger) key(h bulkhead.Hash) *KeyCount {
	if l.lastKey != nil && l.last == h {
		return l.lastKey
	}
	c, ok := l.keys[h]
	if !ok {
		c = &KeyCount{}
		l.keys[h] = c
	}
	l.last, l.lastKey = h, c
	return c
}

func certificateOf(e bulkhead.Evidence) bulkhead.CertificateRef {
	return bulkhead.CertificateRef{Issuer: e.Authority, Serial: e.Serial}
}

func (l *Ledger) intent(e bulkhead.Evidence) (rule, message string) {
	ref := certificateOf(e)
	if ref.Issuer == "" || ref.Serial.IsZero() || e.Digest.IsZero() || e.Signer.IsZero() {
		return RuleIncomplete, "a certificate intent needs authority, serial, digest and signer"
	}
	of := l.certificates[ref.Issuer]
	if of == nil {
		of = make(map[bulkhead.Serial]int32)
		l.certificates[ref.Issuer] = of
	}
	if _, ok := of[ref.Serial]; ok {
		return RuleTwoIntents, fmt.Sprintf("second intent for certificate %s", ref)
	}
	of[ref.Serial] = int32(len(l.entries))
	l.entries = append(l.entries, entry{intent: e.Digest, signer: e.Signer})
	l.key(e.Signer).Open++
	return "", ""
}

// certificate is what is remembered of one; good until the next intent.
func (l *Ledger) certificate(ref bulkhead.CertificateRef) (*entry, bool) {
	n, ok := l.certificates[ref.Issuer][ref.Serial]
	if !ok {
		return nil, false
	}
	return &l.entries[n], true
}

func (l *Ledger) outcome(e bulkhead.Evidence) (rule, message string) {
	ref := certificateOf(e)
	was, ok := l.certificate(ref)
	switch {
	case e.Digest.IsZero() || e.Link.IsZero():
		return RuleIncomplete, fmt.Sprintf("the outcome for certificate %s needs digest and link", ref)
	case !ok:
		return RuleNoIntent, fmt.Sprintf("no intent before the outcome for certificate %s", ref)
	case was.state == done:
		return RuleTwoOutcomes, fmt.Sprintf("second outcome for certificate %s", ref)
	case was.state == abandoned:
		return RuleAfterEnd, fmt.Sprintf("certificate %s was abandoned and then signed", ref)
	case was.intent != e.Link:
		return RuleOtherIntent, fmt.Sprintf("the outcome for certificate %s links to %s, its intent is %s", ref, e.Link, was.intent)
	case !e.Signer.IsZero() && was.signer != e.Signer:
		return RuleOtherIntent, fmt.Sprintf("the outcome for certificate %s names another key than its intent", ref)
	}
	was.state = done
	c := l.key(was.signer)
	c.Open--
	c.Certificates++
	return "", ""
}

func (l *Ledger) abandon(e bulkhead.Evidence) (rule, message string) {
	ref := certificateOf(e)
	was, ok := l.certificate(ref)
	switch {
	case !ok || was.intent != e.Link:
		return RuleAbandon, fmt.Sprintf("certificate %s has no such intent to abandon", ref)
	case was.state != announced:
		return RuleAfterEnd, fmt.Sprintf("certificate %s was already signed or abandoned", ref)
	}
	was.state = abandoned
	l.key(was.signer).Open--
	return "", ""
}

func (l *Ledger) batchIntent(e bulkhead.Evidence) (rule, message string) {
	if e.Ref == "" || e.Digest.IsZero() || e.Signer.IsZero() || e.Count < 1 {
		return RuleIncomplete, "a batch intent needs ref, digest, signer and count"
	}
	if _, ok := l.batches[e.Ref]; ok {
		return RuleTwoBatchIntents, fmt.Sprintf("second intent for batch %s", e.Ref)
	}
	l.batches[e.Ref] = &entry{intent: e.Digest, signer: e.Signer, count: e.Count, window: e.Kind == bulkhead.EvLiveWindow}
	l.key(e.Signer).Open++
	return "", ""
}

func (l *Ledger) batchOutcome(e bulkhead.Evidence) (rule, message string) {
	was, ok := l.batches[e.Ref]
	switch {
	case !ok:
		return RuleNoBatchIntent, fmt.Sprintf("no intent before the outcome of batch %s", e.Ref)
	case was.state == done:
		return RuleTwoBatchOutcomes, fmt.Sprintf("second outcome for batch %s", e.Ref)
	case was.window != (e.Kind == bulkhead.EvLiveOutcome), was.intent != e.Link, !e.Signer.IsZero() && was.signer != e.Signer,
		e.Count > was.count, e.Count < was.count && !was.window:
		return RuleOtherBatchIntent, fmt.Sprintf("link, count or key of the outcome of batch %s are not its intent's", e.Ref)
	}
	was.state = done
	c := l.key(was.signer)
	c.Open--
	c.Batches++
	c.BatchSignatures += e.Count
	return "", ""
}

// Uses says how many signatures a leaf allows its signer's key, and how many it reports as made.
func Uses(e bulkhead.Evidence) (announced, made int64) {
	switch e.Kind {
	case bulkhead.EvCertificateIntent:
		return 1, 0
	case bulkhead.EvBatchIntent, bulkhead.EvLiveWindow:
		return e.Count, 0
	case bulkhead.EvCertificateOutcome:
		return 0, 1
	case bulkhead.EvBatchOutcome, bulkhead.EvLiveOutcome:
		return 0, e.Count
	}
	return 0, 0
}
