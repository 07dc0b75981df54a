package scan

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// HistoryStore is the durable record of looks. Right under concurrency: what two processes keep at once are two rows.
type HistoryStore interface {
	// PlaceLooks returns what looks at a place showed, the newest first.
	PlaceLooks(ctx context.Context, book bulkhead.LookBook, p bulkhead.LookPlace, limit int) ([]bulkhead.LookRecord, error)
	HostLooks(ctx context.Context, book bulkhead.LookBook, host string, limit int) ([]bulkhead.LookRecord, error)
	// HostsOfKey returns the hosts that showed a key at since or later, and no other one after it.
	HostsOfKey(ctx context.Context, book bulkhead.LookBook, key bulkhead.Hash, since time.Time, limit int) ([]string, error)
	// KeepLooks keeps all or none: one with a Seq continues that row, another begins one. Of each place most rows stay.
	KeepLooks(ctx context.Context, book bulkhead.LookBook, looks []bulkhead.LookRecord, most int) error
	ForgetLooks(ctx context.Context, book bulkhead.LookBook, before time.Time) error
	BlockedKeys(ctx context.Context, hashes ...bulkhead.Hash) ([]bulkhead.BlockedKey, error)
}

// Bounds of the history.
const (
	mostChanges = 50                  // rows of one place
	sharedFor   = 30 * 24 * time.Hour // how long a host counts among those with a key
	forgetEvery = time.Hour
)

// History keeps what looks show, and says what changed: a key that is still the one of the look before, one that stayed
// after the host was seen to leak, one that other hosts show, one that is blocked. It holds for all processes on one record.
type History struct {
	store HistoryStore
	now   func() time.Time
	keep  map[bulkhead.LookBook]time.Duration

	mu     sync.Mutex
	forgot map[bulkhead.LookBook]time.Time
}

// NewHistory makes a history; what strangers had looked at is forgotten after public, the rest after house.
func NewHistory(store HistoryStore, now func() time.Time, public, house time.Duration) *History {
	return &History{store: store, now: now, forgot: map[bulkhead.LookBook]time.Time{},
		keep: map[bulkhead.LookBook]time.Duration{bulkhead.PublicLooks: public, bulkhead.HouseLooks: house}}
}

// Record is what a look at an endpoint shows, for the history.
func Record(e Endpoint) bulkhead.LookRecord {
	r := bulkhead.LookRecord{LookPlace: bulkhead.LookPlace{Host: e.Endpoint.Host, Address: e.Endpoint.AddrPort(), STARTTLS: e.Endpoint.STARTTLS}, Looks: 1, Verdict: e.Verdict, Reason: e.Reason,
		Detail: e.Detail, Findings: slices.DeleteFunc(slices.Clone(e.Findings), func(f Finding) bool { return ofHistory[f.Rule] })}
	r.FirstAt, r.LastAt = e.At.UTC().Truncate(time.Second), e.At.UTC().Truncate(time.Second)
	if c := e.Chain; c != nil && c.Malformed == "" {
		r.Fingerprint, r.Key, r.Issued, r.NotAfter = bulkhead.Digest(c.DER[0]), c.Key.SPKI, c.NotBefore.UTC(), c.NotAfter.UTC()
	}
	return r
}

// ofHistory are the findings that come from comparing with other looks.
var ofHistory = map[string]bool{"key-unchanged": true, "key-kept": true, "key-shared": true, "key-blocked": true}

// Records are the looks of results that say something of an endpoint, and whose they are. What was not dialled says nothing.
func Records(all []Result) (records []bulkhead.LookRecord, of []*Endpoint) {
	for i := range all {
		for j := range all[i].Endpoints {
			if e := &all[i].Endpoints[j]; e.Verdict != "" && e.Reason != bulkhead.ReasonDialDenied && e.Reason != bulkhead.ReasonBadEndpoint && e.Reason != bulkhead.ReasonCancelled {
				records, of = append(records, Record(*e)), append(of, e)
			}
		}
	}
	return records, of
}

// Learn gives endpoints the findings of the history in place of those that their run came to: the record knows more.
func Learn(of []*Endpoint, kept []bulkhead.LookRecord) {
	for i, e := range of[:min(len(of), len(kept))] {
		own := slices.DeleteFunc(e.Findings, func(f Finding) bool { return ofHistory[f.Rule] })
		e.Findings = append(own, slices.DeleteFunc(slices.Clone(kept[i].Findings), func(f Finding) bool { return !ofHistory[f.Rule] })...)
	}
}

// Keep compares results with the looks before, adds the findings, and keeps them.
func (h *History) Keep(ctx context.Context, book bulkhead.LookBook, all []Result) error {
	records, of := Records(all)
	kept, err := h.KeepRecords(ctx, book, records)
	if err != nil {
		return err
	}
	Learn(of, kept)
	return nil
}

// KeepRecords is Keep for looks that were taken elsewhere. It returns them with the findings of the history and what changed.
func (h *History) KeepRecords(ctx context.Context, book bulkhead.LookBook, looks []bulkhead.LookRecord) ([]bulkhead.LookRecord, error) {
	if len(looks) == 0 {
		return nil, nil
	}
	for i := range looks {
		looks[i].Findings = slices.DeleteFunc(slices.Clone(looks[i].Findings), func(f Finding) bool { return ofHistory[f.Rule] })
		looks[i].Seq, looks[i].Looks, looks[i].Changed = 0, 1, nil
	}
	blocked, err := h.blocked(ctx, looks)
	if err != nil {
		return nil, err
	}
	for i := range looks {
		if err := h.compare(ctx, book, &looks[i], looks, blocked); err != nil {
			return nil, err
		}
	}
	stored := make([]bulkhead.LookRecord, len(looks))
	for i, l := range looks {
		l.Findings = slices.DeleteFunc(slices.Clone(l.Findings), func(f Finding) bool { return f.Rule == "key-unchanged" }) // the row says so itself
		stored[i] = l
	}
	return looks, errors.Join(h.store.KeepLooks(ctx, book, stored, mostChanges), h.forget(ctx, book))
}

func (h *History) blocked(ctx context.Context, looks []bulkhead.LookRecord) (map[bulkhead.Hash]bulkhead.BlockedKey, error) {
	var keys []bulkhead.Hash
	for _, l := range looks {
		if !l.Key.IsZero() && !slices.Contains(keys, l.Key) {
			keys = append(keys, l.Key)
		}
	}
	out := map[bulkhead.Hash]bulkhead.BlockedKey{}
	if len(keys) == 0 {
		return out, nil
	}
	rows, err := h.store.BlockedKeys(ctx, keys...)
	for _, b := range rows {
		out[b.KeyHash] = b
	}
	return out, err
}

// compare adds what the looks before say of this one, and which row it continues.
func (h *History) compare(ctx context.Context, book bulkhead.LookBook, l *bulkhead.LookRecord, run []bulkhead.LookRecord, blocked map[bulkhead.Hash]bulkhead.BlockedKey) error {
	before, err := h.store.PlaceLooks(ctx, book, l.LookPlace, mostChanges)
	if err != nil {
		return err
	}
	if b, ok := blocked[l.Key]; ok {
		l.Findings = append(l.Findings, Finding{Rule: "key-blocked", Severity: bulkhead.Critical,
			Message: "the key was blocked on " + b.BlockedAt.UTC().Format(time.DateOnly) + " and is refused for ever: make a new key"})
	}
	if !l.Key.IsZero() {
		if f, ok := sinceBefore(*l, before); ok {
			l.Findings = append(l.Findings, f)
		}
		hosts, err := h.store.HostsOfKey(ctx, book, l.Key, l.LastAt.Add(-sharedFor), 50)
		if err != nil {
			return err
		}
		for _, o := range run {
			if o.Key == l.Key && !slices.Contains(hosts, o.Host) {
				hosts = append(hosts, o.Host)
			}
		}
		if f, ok := sharedWith(l.Host, hosts); ok {
			l.Findings = append(l.Findings, f)
		}
	}
	if len(before) == 0 {
		return nil
	}
	if l.Changed = Changes(before[0], lastSeen(before), *l); len(l.Changed) == 0 {
		l.Seq = before[0].Seq
	}
	return nil
}

// lastSeen is the newest record that has a certificate.
func lastSeen(before []bulkhead.LookRecord) bulkhead.LookRecord {
	for _, b := range before {
		if !b.Fingerprint.IsZero() {
			return b
		}
	}
	return bulkhead.LookRecord{}
}

// sinceBefore says whether the key is the one of the look before, and whether it is one that leaked.
func sinceBefore(l bulkhead.LookRecord, before []bulkhead.LookRecord) (Finding, bool) {
	for _, b := range before {
		if b.Verdict == bulkhead.Vulnerable && b.Key == l.Key {
			return kept(b.LastAt), true
		}
	}
	if b := lastSeen(before); b.Key == l.Key {
		return Finding{Rule: "key-unchanged", Severity: bulkhead.Notice, Message: "the key is the one of " + b.LastAt.UTC().Format(time.DateOnly)}, true
	}
	return Finding{}, false
}

func kept(leaked time.Time) Finding {
	return Finding{Rule: "key-kept", Severity: bulkhead.Critical,
		Message: "the host was vulnerable on " + leaked.UTC().Format(time.DateOnly) + " and still shows the same key: a new certificate with it protects nothing"}
}

func sharedWith(host string, hosts []string) (Finding, bool) {
	others := slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return h == host })
	if len(others) == 0 {
		return Finding{}, false
	}
	more := ""
	if n := len(others) - 5; n > 0 {
		others, more = others[:5], fmt.Sprintf(" and %d more", n)
	}
	return Finding{Rule: "key-shared", Severity: bulkhead.Warning, Message: "the same key is at " + strings.Join(others, ", ") + more}, true
}

// Changes says in words what a look shows that the one before did not; seen is the newest one before that had a certificate.
// None means that it shows the same.
func Changes(before, seen, now bulkhead.LookRecord) []string {
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	switch {
	case before.Verdict != now.Verdict:
		add("%s before, %s now", strings.ReplaceAll(string(before.Verdict), "_", " "), strings.ReplaceAll(string(now.Verdict), "_", " "))
	case before.Reason != now.Reason:
		add("%s before, %s now", before.Reason, now.Reason)
	}
	switch {
	case now.Fingerprint.IsZero():
		if !before.Fingerprint.IsZero() {
			add("no certificate was seen")
		}
	case seen.Fingerprint.IsZero():
		add("a certificate was seen for the first time")
	case now.Fingerprint == seen.Fingerprint:
		if before.Fingerprint.IsZero() {
			add("the certificate of before is seen again")
		}
	case now.Key == seen.Key:
		add("another certificate with the SAME key")
	default:
		add("another certificate with another key")
	}
	if now.Fingerprint.IsZero() {
		return out // what was wrong with the certificate is not known to be gone
	}
	was, is := rulesOf(seen), rulesOf(now)
	for _, r := range is {
		if !slices.Contains(was, r) {
			add("new: %s", r)
		}
	}
	for _, r := range was {
		if !slices.Contains(is, r) {
			add("gone: %s", r)
		}
	}
	return out
}

// rulesOf are the rules that a look found, sorted. That the key is the one before is no change.
func rulesOf(l bulkhead.LookRecord) []string {
	var out []string
	for _, f := range l.Findings {
		if f.Rule != "key-unchanged" && !slices.Contains(out, f.Rule) {
			out = append(out, f.Rule)
		}
	}
	slices.Sort(out)
	return out
}

// Of returns what looks at a host showed, the newest first.
func (h *History) Of(ctx context.Context, book bulkhead.LookBook, host string, limit int) ([]bulkhead.LookRecord, error) {
	return h.store.HostLooks(ctx, book, host, limit)
}

// forget deletes what is old, now and then.
func (h *History) forget(ctx context.Context, book bulkhead.LookBook) error {
	now := h.now()
	h.mu.Lock()
	due := now.Sub(h.forgot[book]) >= forgetEvery
	if due {
		h.forgot[book] = now
	}
	h.mu.Unlock()
	if !due || h.keep[book] <= 0 {
		return nil
	}
	return h.store.ForgetLooks(ctx, book, now.Add(-h.keep[book]))
}
