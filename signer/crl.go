package signer

import (
	"bytes"
	"context"
	"io"
	"iter"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/lint"
)

// keepMargin keeps an entry on a CRL for one period beyond the certificate's end.
const keepMargin = bulkhead.AfterTheEnd

// SignCRL implements Door. thisUpdate is the one asked for, or the latest revocation on the list when that is later: a
// CRL does not speak of what was still to come (RFC 5280 section 5.1.2.4). The DER goes to w only after the outcome is durable; after an error w holds nothing of use.
// Faults: KindUnavailable for an offline key, KindMalformed for a shard that does not exist, KindConflict for a number
// that this process has signed before, a change that is not approved, or entries that moved meanwhile; KindGate from lint, which sees a twin first.
func (s *Signer) SignCRL(ctx context.Context, req bulkhead.CRLRequest, w io.Writer) (bulkhead.CRLRecord, error) {
	none := bulkhead.CRLRecord{}
	leave, err := s.enter()
	if err != nil {
		return none, err
	}
	defer leave()
	a, err := s.answering(ctx, req.Authority)
	if err != nil {
		return none, err
	}
	if a.Dead() {
		return none, bulkhead.Faultf(bulkhead.KindUnavailable, "the key of authority %s is destroyed", a.ID).WithHint("its CRLs were signed in advance; nothing can be signed any more")
	}
	if a.key == nil {
		return none, bulkhead.Faultf(bulkhead.KindUnavailable, "the key of authority %s is offline", a.ID).WithHint("its CRLs are signed at a ceremony and imported")
	}
	if req.Shard < 0 || req.Shard >= max(a.Shards, 1) {
		return none, bulkhead.Faultf(bulkhead.KindMalformed, "authority %s has no CRL shard %d", a.ID, req.Shard).WithHint("see: bulkhead hierarchy show")
	}
	this, next, err := s.window(req.ThisUpdate, req.NextUpdate, a.cert.NotAfter)
	if err != nil {
		return none, err
	}
	head, err := s.cfg.Store.Head(ctx) // before any row is read: what moves meanwhile is read again next time
	if err != nil {
		return none, err
	}
	over, err := s.overlayNow(ctx, req.Change, a.ID, head.Sequence)
	if err != nil {
		return none, err
	}
	key := shardKey{a.ID, req.Shard}
	list, err := s.shardList(ctx, key, this.Add(-keepMargin), over, head.Sequence)
	if err != nil {
		return none, err
	}
	defer s.keepList(key, list)
	if this, next, err = s.window(later(this, list.latest), next); err != nil {
		return none, err
	}
	info := crl.Info{Issuer: a.cert, Number: req.Number, ThisUpdate: this, NextUpdate: next, URL: s.cfg.URLs.CRL(a.ID, req.Shard), Scope: crl.ScopeUserCerts}
	if err := s.lintCRL(a, info, list, s.now()); err != nil {
		return none, err
	}
	if err := s.takeNumber(req); err != nil {
		return none, err
	}
	res, err := list.write(w, info, func(t crl.ToSign) ([]byte, error) { return s.signCRL(ctx, req, a, t) })
	if err != nil {
		return none, err
	}
	return bulkhead.CRLRecord{Authority: a.ID, Shard: req.Shard, Number: req.Number, ThisUpdate: this, NextUpdate: next, Object: req.Object,
		Digest: res.Digest, Entries: res.Entries}, nil
}

// lintEntries bounds what lint sees of a CRL: the rules look at the frame and at each entry alone, and the encoder holds
// every entry to the reasons that are allowed.
const lintEntries = 1000

func later(x, y time.Time) time.Time {
	if y.After(x) {
		return y
	}
	return x
}

// lintCRL makes a twin of the CRL with a throw-away key and a sample of its entries, and lints it as of a time.
func (s *Signer) lintCRL(a *authority, info crl.Info, list *shardList, at time.Time) error {
	key, err := s.twins.like(a.cert.PublicKey)
	if err != nil {
		return err
	}
	issuer := *a.cert
	issuer.PublicKey, info.Issuer = key.Public(), &issuer
	sample, err := list.sample(lintEntries)
	if err != nil {
		return err
	}
	var der bytes.Buffer
	if _, err := crl.WriteFile(&der, info, bytes.NewReader(sample), int64(len(sample)), func(t crl.ToSign) ([]byte, error) { return key.Sign(s.cfg.Rand, t.Digest, t.Hash) }); err != nil {
		return err
	}
	found, err := s.cfg.Linter.ExpectedCRL(der.Bytes(), lint.SetCRL, at, lint.Expect{Issuer: a.cert, CRLURL: info.URL})
	if err != nil {
		return err
	}
	return lint.Blocking(found)
}

// signCRL is called when the whole TBSCertList is known and nothing of it has left: intent, signature, outcome.
func (s *Signer) signCRL(ctx context.Context, req bulkhead.CRLRequest, a *authority, t crl.ToSign) ([]byte, error) {
	detail := "crl: " + req.Object
	if req.Change != "" {
		detail += ", change " + req.Change
	}
	b, err := s.newBatch(a.ID, a.hash, detail)
	if err != nil {
		return nil, err
	}
	if err := s.announce(ctx, b, []bulkhead.Hash{t.TBSDigest}); err != nil {
		return nil, err
	}
	signature, err := a.key.Sign(s.cfg.Rand, t.Digest, t.Hash)
	if err != nil {
		return nil, unavailable("the issuing key did not sign", err)
	}
	return signature, s.conclude(ctx, b, []bulkhead.Hash{bulkhead.Digest(signature)})
}

// takeNumber refuses a CRL number at or below one that this process signed for the shard: two CRLs with one number
// would contradict each other (RFC 5280 section 5.2.3). Across restarts the record hands out the numbers.
func (s *Signer) takeNumber(req bulkhead.CRLRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := shardKey{req.Authority, req.Shard}
	if last, ok := s.crls[key]; ok && req.Number <= last {
		return bulkhead.Faultf(bulkhead.KindConflict, "CRL number %d is not above %d, which was used for shard %d of %s", req.Number, last, req.Shard, req.Authority).
			WithHint("take the next number from the record")
	}
	s.crls[key] = req.Number
	return nil
}

// of are the certificates of a shard as the change will make them, in serial order; none when the change speaks of no certificate there.
func (o *laidOver) of(shard int) (said iter.Seq2[bulkhead.Status, error], any bool) {
	said = func(yield func(bulkhead.Status, error) bool) {
		for a := range o.rows.All() {
			if a.Shard == shard && answered(a.Status) && !yield(a.After(o.change), nil) {
				return
			}
		}
	}
	for range said {
		return said, true
	}
	return said, false
}
