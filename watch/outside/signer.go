package outside

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"sort"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/tlog"
)

// Responder is the key that made a response's signature.
type Responder struct {
	Certificate *x509.Certificate // nil when no certificate at hand verifies the signature
	KeyHash     bulkhead.Hash     // SHA-256 of its SPKI
	Issuer      bool              // the issuing authority itself
	Ours        bool              // the issuer, or a delegate that the record knows
}

// String names the key for people.
func (r Responder) String() string {
	if r.Certificate == nil {
		return "a key for which the response holds no certificate"
	}
	return fmt.Sprintf("%q, key SHA-256 %s", r.Certificate.Subject.String(), r.KeyHash)
}

// responder finds the certificate whose key made the signature: among those embedded, and the issuer's own.
func responder(r *ocsp.Response, issuer *x509.Certificate) Responder {
	try := func(c *x509.Certificate) bool {
		return r.SignatureAlgorithm != x509.UnknownSignatureAlgorithm && c.CheckSignature(r.SignatureAlgorithm, r.TBS, r.Signature) == nil
	}
	for _, der := range r.Certificates {
		if c, err := x509.ParseCertificate(der); err == nil && try(c) {
			own := issuer != nil && bytes.Equal(c.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo)
			return Responder{Certificate: c, KeyHash: bulkhead.Digest(c.RawSubjectPublicKeyInfo), Issuer: own, Ours: own}
		}
	}
	if issuer != nil && try(issuer) {
		return Responder{Certificate: issuer, KeyHash: bulkhead.Digest(issuer.RawSubjectPublicKeyInfo), Issuer: true, Ours: true}
	}
	return Responder{}
}

// ours asks the record whether a responder may speak for the issuer: a delegate that was issued under it, or that a
// ceremony prepared.
func ours(ctx context.Context, rec Record, id bulkhead.AuthorityID, r Responder, now time.Time) (bool, error) {
	if r.Ours || r.Certificate == nil {
		return r.Ours, nil
	}
	rows, err := rec.CertificatesByKey(ctx, r.KeyHash, now)
	if err != nil {
		return false, err
	}
	for _, c := range rows {
		if c.Issuer == id && c.Kind == bulkhead.DelegateCertificate {
			return true, nil
		}
	}
	all, err := rec.Delegates(ctx, id)
	if err != nil {
		return false, err
	}
	for _, d := range all {
		if c, err := x509.ParseCertificate(d.Certificate); err == nil && bulkhead.Digest(c.RawSubjectPublicKeyInfo) == r.KeyHash {
			return true, nil
		}
	}
	return false, nil
}

const (
	// signedWithin is how long after producedAt a batch may be announced: a million answers are encoded first.
	signedWithin = 10 * time.Minute
	// liveWindow is how long an edge may sign with one delegate.
	liveWindow = 24 * time.Hour
	// remember is how far back signatures are known: longer than any answer lives (BR 4.9.9: 10 d).
	remember = 11 * 24 * time.Hour
	// maxBatches bounds the ledger; the oldest go first, and nothing is claimed of what is older.
	maxBatches = 400_000
)

// ledger knows when each of our keys signed answers, from evidence.
type ledger struct {
	mu    sync.Mutex
	since time.Time // nothing older is known
	ready bool      // caught up with the evidence once
	keys  map[bulkhead.Hash][]signed
	n     int
}

type signed struct {
	at    time.Time
	until time.Time // of a live window; else zero
	seq   int64
	ref   string
}

func newLedger() *ledger { return &ledger{keys: map[bulkhead.Hash][]signed{}} }

// note takes one leaf.
func (l *ledger) note(seq int64, e bulkhead.Evidence) {
	s := signed{at: e.At, seq: seq, ref: e.Ref}
	switch e.Kind {
	case bulkhead.EvBatchIntent:
	case bulkhead.EvLiveWindow:
		s.until = e.At.Add(liveWindow)
	default:
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[e.Signer] = append(l.keys[e.Signer], s)
	if l.n++; l.n > maxBatches {
		l.drop(e.At.Add(-remember / 2))
	}
}

// drop forgets what is older. Callers hold mu.
func (l *ledger) drop(before time.Time) {
	l.n, l.since = 0, before
	for k, list := range l.keys {
		i := sort.Search(len(list), func(i int) bool { return !list[i].at.Before(before) })
		l.keys[k] = append([]signed(nil), list[i:]...)
		l.n += len(list) - i
	}
}

// signed tells whether evidence has a signature by the key for an answer produced then. known is false when the ledger
// does not reach that far, or has not caught up.
func (l *ledger) signed(key bulkhead.Hash, produced, now time.Time) (found signed, ok, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.keys[key] {
		if !s.until.IsZero() && !produced.Before(s.at.Truncate(time.Second)) && !produced.After(s.until) {
			return s, true, true
		}
		if s.until.IsZero() && !s.at.Before(produced.Truncate(time.Second)) && s.at.Before(produced.Add(signedWithin)) {
			return s, true, true
		}
	}
	return signed{}, false, l.ready && produced.After(l.since) && now.Sub(produced) > time.Minute
}

// firstSince finds the last sequence whose leaf is older than t, by halving: leaves stand in the order of their time.
func firstSince(ctx context.Context, rec Record, t time.Time) (int64, error) {
	head, _, err := rec.EvidenceHead(ctx)
	if err != nil {
		return 0, err
	}
	low, high := int64(0), head // the leaf at low is older, the one above high is not
	for low < high {
		mid := low + (high-low+1)/2
		e, err := leafAt(ctx, rec, mid)
		if err != nil {
			return 0, err
		}
		if e.At.Before(t) {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low, nil
}

// leafAt reads one leaf; KindNotFound when there is none.
func leafAt(ctx context.Context, rec Record, seq int64) (bulkhead.Evidence, error) {
	if seq > 0 {
		rows, err := rec.EvidenceAfter(ctx, seq-1, 1)
		if err != nil {
			return bulkhead.Evidence{}, err
		}
		if len(rows) == 1 && rows[0].Seq == seq {
			return tlog.Parse(rows[0].Leaf)
		}
	}
	return bulkhead.Evidence{}, bulkhead.Faultf(bulkhead.KindNotFound, "there is no evidence row %d", seq)
}
