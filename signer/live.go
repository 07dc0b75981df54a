package signer

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/pki/lint"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/profile"
	"bulkhead/pki/tlog"
)

const (
	// liveValidity of an edge's delegate, backdating included: it carries nocheck, so nothing but its end takes it back.
	liveValidity = 24 * time.Hour
	// maxLiveWindow bounds how long one intent allows signatures.
	maxLiveWindow = time.Hour
	// maxLiveSignatures bounds how many.
	maxLiveSignatures = 1 << 20
)

// Live certifies the delegates of edges that sign OCSP answers themselves, and keeps account of what they sign. The keys
// are the edges': they never come here. Statements are the edges' as well: see decision 0006 for what that gives up.
type Live struct {
	s *Signer

	mu        sync.Mutex
	delegates map[bulkhead.Hash]liveDelegate // by SHA-256 of the SPKI
	windows   map[string]liveWindow          // open ones
}

type liveDelegate struct {
	authority   bulkhead.AuthorityID
	certificate bulkhead.Hash
	notAfter    time.Time
}

type liveWindow struct {
	liveDelegate
	key   bulkhead.Hash
	limit int
}

// NewLive makes the door for live edges.
func NewLive(s *Signer) *Live {
	return &Live{s: s, delegates: map[bulkhead.Hash]liveDelegate{}, windows: map[string]liveWindow{}}
}

// CertifyLive certifies an edge's own P-256 key as an OCSP delegate of the authority, for 24 hours at most, by the same
// prepare, token and sign path as every certificate. csr is DER PKCS #10 without names; only its key is taken.
// KindUnavailable when the authority's key is offline, KindBadPublicKey for any other kind of key, KindGate when the
// result is no delegate.
func (l *Live) CertifyLive(ctx context.Context, id bulkhead.AuthorityID, csr []byte) (bulkhead.IssuedCertificate, error) {
	none, s := bulkhead.IssuedCertificate{}, l.s
	leave, err := s.enter()
	if err != nil {
		return none, err
	}
	defer leave()
	a, err := s.answering(ctx, id)
	if err != nil {
		return none, err
	}
	if a.key == nil {
		return none, bulkhead.Faultf(bulkhead.KindUnavailable, "the key of authority %s is offline: it has no live delegates", a.ID).
			WithHint("its answers stay pre-signed")
	}
	parsed, err := s.parseCSR(csr, nil)
	if err != nil {
		return none, err
	}
	if k, ok := parsed.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return none, bulkhead.NewFault(bulkhead.KindBadPublicKey, "an OCSP delegate has a P-256 key").WithHint("make a P-256 key pair")
	}
	if err := s.checkKey(ctx, parsed.PublicKey, parsed.RawSubjectPublicKeyInfo, a, s.rules); err != nil {
		return none, err
	}
	d := &draft{authority: a, kind: bulkhead.DelegateCertificate, profile: "ocsp-delegate", pub: parsed.PublicKey, spki: parsed.RawSubjectPublicKeyInfo,
		actor: s.cfg.Actor, set: lint.SetDelegate}
	d.template = func(serial bulkhead.Serial, now time.Time, shard int) (*x509.Certificate, error) {
		return profile.OCSPDelegate(profile.House{Subject: delegateName(a, serial), PublicKey: d.pub, Serial: serial, Now: now,
			Validity: liveValidity, Backdate: delegateBackdate, Parent: a.cert, ParentID: a.ID, Shard: shard, URLs: s.cfg.URLs})
	}
	token, err := s.reserve(ctx, d)
	if err != nil {
		return none, err
	}
	issued, err := s.Sign(ctx, token)
	if err != nil {
		return none, err
	}
	return issued, l.admit(ctx, a, issued)
}

// admit records a delegate as one for which windows may be opened.
func (l *Live) admit(ctx context.Context, a *authority, issued bulkhead.IssuedCertificate) error {
	cert, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		return fmt.Errorf("parse delegate: %w", err)
	}
	now := l.s.now()
	if err := ocsp.CheckDelegate(cert, a.cert, now); err != nil {
		return err
	}
	row := issued.Certificate
	if _, err := l.s.cfg.Store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: now, Actor: l.s.cfg.Actor, Authority: a.ID, Serial: row.Serial,
		KeyHash: row.KeyHash, Digest: row.Fingerprint, Detail: "live OCSP delegate, key held by an edge"}); err != nil {
		return unavailable("the delegate could not be recorded", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, d := range l.delegates {
		if now.After(d.notAfter) {
			delete(l.delegates, k)
		}
	}
	l.delegates[row.KeyHash] = liveDelegate{a.ID, row.Fingerprint, cert.NotAfter}
	return nil
}

// OpenLiveWindow makes the intent durable that the delegate with this key (SHA-256 of its SPKI) signs at most limit
// answers until a moment within the hour. Without it the edge must not sign. Faults: KindForbidden for a key that was not
// certified here, KindBadPublicKey for a blocked one, KindMalformed for bounds, KindUnavailable when evidence cannot be written.
func (l *Live) OpenLiveWindow(ctx context.Context, key bulkhead.Hash, limit int, until time.Time) (id string, err error) {
	s := l.s
	leave, err := s.enter()
	if err != nil {
		return "", err
	}
	defer leave()
	l.mu.Lock()
	d, ok := l.delegates[key]
	l.mu.Unlock()
	now := s.now()
	switch {
	case !ok:
		return "", bulkhead.NewFault(bulkhead.KindForbidden, "this key is no live delegate of this signer").WithHint("have it certified first")
	case limit < 1 || limit > maxLiveSignatures || !until.After(now) || until.After(now.Add(maxLiveWindow)) || until.After(d.notAfter):
		return "", bulkhead.Faultf(bulkhead.KindMalformed, "a window allows 1 to %d signatures, ends within %s and not after its delegate", maxLiveSignatures, maxLiveWindow).
			WithHint("ask for a smaller window")
	}
	if a, err := s.answering(ctx, d.authority); err != nil {
		return "", err
	} else if a.Dead() {
		return "", bulkhead.Faultf(bulkhead.KindConflict, "the key of authority %s is destroyed: its status was signed before", a.ID).WithHint("its answers stay pre-signed")
	}
	if err := s.notBlocked(ctx, key); err != nil {
		return "", err
	}
	var b [16]byte
	if _, err := io.ReadFull(s.cfg.Rand, b[:]); err != nil {
		return "", fmt.Errorf("random source: %w", err)
	}
	id = hex.EncodeToString(b[:])
	if _, err := s.cfg.Store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvLiveWindow, At: now, Actor: s.cfg.Actor, Authority: d.authority, Ref: id,
		Signer: key, Digest: d.certificate, Count: int64(limit), Detail: "live OCSP answers until " + until.UTC().Format(time.RFC3339)}); err != nil {
		return "", unavailable("the intent to sign could not be made durable", err)
	}
	l.mu.Lock()
	l.windows[id] = liveWindow{d, key, limit}
	l.mu.Unlock()
	return id, nil
}

// CloseLiveWindow accounts for the signatures of a window by their SHA-256, in the order in which they were made.
// KindNotFound for a window that is not open, KindConflict for more signatures than it allowed; KindUnavailable when
// evidence cannot be written: call it again.
func (l *Live) CloseLiveWindow(ctx context.Context, id string, signatures []bulkhead.Hash) error {
	s := l.s
	leave, err := s.enter()
	if err != nil {
		return err
	}
	defer leave()
	l.mu.Lock()
	w, ok := l.windows[id]
	l.mu.Unlock()
	if !ok {
		return bulkhead.Faultf(bulkhead.KindNotFound, "no live window %s is open", id).WithHint("its intent bounds what was signed; let the delegate end")
	}
	if len(signatures) > w.limit {
		return bulkhead.Faultf(bulkhead.KindConflict, "live window %s allowed %d signatures, %d were made", id, w.limit, len(signatures)).
			WithHint("stop that edge and open an incident")
	}
	if _, err := s.cfg.Store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvLiveOutcome, At: s.now(), Actor: s.cfg.Actor, Authority: w.authority, Ref: id, Signer: w.key,
		Digest: tlog.BatchRoot(signatures), Link: w.certificate, Count: int64(len(signatures)), Detail: "live OCSP answers"}); err != nil {
		return unavailable("the outcome could not be made durable", err)
	}
	l.mu.Lock()
	delete(l.windows, id)
	l.mu.Unlock()
	return nil
}

// LiveAuthorities are the authorities that can have live delegates: those that answer and whose key is online.
func (l *Live) LiveAuthorities(ctx context.Context) ([]bulkhead.Authority, error) {
	all, err := l.s.cfg.Store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	var out []bulkhead.Authority
	for _, a := range all {
		if a.Answers() && a.KeyURI != "" && len(a.Certificate) > 0 {
			out = append(out, a)
		}
	}
	return out, nil
}
