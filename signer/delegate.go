package signer

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/lint"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/profile"
)

// delegateBackdate lets clients with a slow clock accept a new delegate, and answers begin before it was made.
const delegateBackdate = time.Hour

// delegate is an OCSP delegate that may sign now.
type delegate struct {
	bulkhead.Delegate
	cert      *x509.Certificate
	key       crypto.Signer
	hash      bulkhead.Hash // SHA-256 of its SPKI
	responder [20]byte      // RFC 6960 KeyHash
}

// EnsureDelegate makes sure that an OCSP delegate is in service for the authority: a P-256 key with a certificate by
// the authority's own key, renewed at half of its validity. It destroys the keys of delegates that have ended: no
// answer outlives its delegate. For an authority whose key is offline the delegate comes from a ceremony; when none is
// valid the fault is KindUnavailable.
func (s *Signer) EnsureDelegate(ctx context.Context, id bulkhead.AuthorityID) (bulkhead.Delegate, error) {
	leave, err := s.enter()
	if err != nil {
		return bulkhead.Delegate{}, err
	}
	defer leave()
	a, err := s.answering(ctx, id)
	if err != nil {
		return bulkhead.Delegate{}, err
	}
	d, err := s.delegate(ctx, a)
	if err != nil {
		return bulkhead.Delegate{}, err
	}
	return d.Delegate, nil
}

// delegate returns the one in service, making or renewing it when it is time. A renewal that fails is logged while the
// old one still serves.
func (s *Signer) delegate(ctx context.Context, a *authority) (*delegate, error) {
	lock := s.lockOf(a.ID)
	lock.Lock()
	defer lock.Unlock()
	all, err := s.cfg.Store.Delegates(ctx, a.ID)
	if err != nil {
		return nil, err
	}
	now := s.now()
	s.dropEnded(ctx, a, all, now)
	current := s.usable(ctx, a, all, now)
	half := current != nil && now.Before(current.NotBefore.Add(current.NotAfter.Sub(current.NotBefore)/2))
	cut := current != nil && !current.cert.NotAfter.Before(a.cert.NotAfter) // no later one can be had
	if current != nil && (half || cut || a.key == nil) {
		return current, nil
	}
	if a.key == nil {
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "authority %s has no OCSP delegate that is valid now, and its key is offline", a.ID).
			WithHint("sign delegates at a ceremony and import them; see: bulkhead doctor")
	}
	fresh, err := s.makeDelegate(ctx, a)
	if err != nil && current != nil {
		s.cfg.Log.ErrorContext(ctx, "OCSP delegate could not be renewed; the old one serves on", slog.String("authority", string(a.ID)),
			slog.Time("until", current.NotAfter), slog.String("error", err.Error()))
		return current, nil
	}
	return fresh, err
}

func (s *Signer) lockOf(id bulkhead.AuthorityID) *sync.Mutex {
	s.mu.Lock()
	defer s.mu.Unlock()
	lock, ok := s.locks[id]
	if !ok {
		lock = &sync.Mutex{}
		s.locks[id] = lock
	}
	return lock
}

// usable picks the delegate with the latest start among those that may sign now.
func (s *Signer) usable(ctx context.Context, a *authority, all []bulkhead.Delegate, now time.Time) *delegate {
	var best *delegate
	for _, rec := range all {
		if now.Before(rec.NotBefore) || now.After(rec.NotAfter) || best != nil && !rec.NotBefore.After(best.NotBefore) {
			continue
		}
		d, err := s.load(ctx, a, rec, now)
		if err != nil {
			s.cfg.Log.WarnContext(ctx, "OCSP delegate is not used", slog.String("authority", string(a.ID)), slog.String("key", rec.KeyURI), slog.String("error", err.Error()))
			continue
		}
		best = d
	}
	return best
}

// load checks a delegate as a client would, and that its key is there.
func (s *Signer) load(ctx context.Context, a *authority, rec bulkhead.Delegate, now time.Time) (*delegate, error) {
	cert, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, fmt.Errorf("parse delegate: %w", err)
	}
	if err := ocsp.CheckDelegate(cert, a.cert, now); err != nil {
		return nil, err
	}
	d := &delegate{Delegate: rec, cert: cert, hash: keycheck.SPKIHash(cert.RawSubjectPublicKeyInfo)}
	if err := s.notBlocked(ctx, d.hash); err != nil {
		return nil, err
	}
	if d.responder, err = ocsp.KeyHash(cert.RawSubjectPublicKeyInfo); err != nil {
		return nil, err
	}
	d.key, err = s.open(ctx, rec.KeyURI, cert.PublicKey)
	return d, err
}

// makeDelegate makes key and certificate through the same prepare, token and sign path as every certificate.
func (s *Signer) makeDelegate(ctx context.Context, a *authority) (*delegate, error) {
	var tail [6]byte
	if _, err := io.ReadFull(s.cfg.Rand, tail[:]); err != nil {
		return nil, fmt.Errorf("random source: %w", err)
	}
	uri, key, err := s.cfg.Keys.Generate(ctx, "ocsp-"+string(a.ID)+"-"+hex.EncodeToString(tail[:]), keys.P256)
	if err != nil {
		return nil, unavailable("no key for an OCSP delegate could be made", err)
	}
	rec, err := s.certifyDelegate(ctx, a, uri, key.Public(), term{s.now(), s.cfg.DelegateValidity})
	if err != nil {
		clean, cancel := detached(ctx)
		defer cancel()
		if err := s.cfg.Keys.Destroy(clean, uri); err != nil {
			s.cfg.Log.WarnContext(ctx, "unused key could not be destroyed", slog.String("key", uri), slog.String("error", err.Error()))
		}
		return nil, err
	}
	return s.load(ctx, a, rec, s.now())
}

// term is when a delegate begins, and for how long it is good.
type term struct {
	from     time.Time
	validity time.Duration
}

func (s *Signer) certifyDelegate(ctx context.Context, a *authority, uri string, pub crypto.PublicKey, when term) (bulkhead.Delegate, error) {
	spki, err := keycheck.SPKI(pub)
	if err != nil {
		return bulkhead.Delegate{}, err
	}
	d := &draft{authority: a, kind: bulkhead.DelegateCertificate, profile: "ocsp-delegate", pub: pub, spki: spki, actor: s.cfg.Actor, set: lint.SetDelegate}
	d.template = func(serial bulkhead.Serial, _ time.Time, shard int) (*x509.Certificate, error) {
		return profile.OCSPDelegate(profile.House{Subject: delegateName(a, serial), PublicKey: pub, Serial: serial, Now: when.from,
			Validity: when.validity, Backdate: delegateBackdate, Parent: a.cert, ParentID: a.ID, Shard: shard, URLs: s.cfg.URLs})
	}
	token, err := s.reserve(ctx, d)
	if err != nil {
		return bulkhead.Delegate{}, err
	}
	issued, err := s.Sign(ctx, token)
	if err != nil {
		return bulkhead.Delegate{}, err
	}
	rec := bulkhead.Delegate{Authority: a.ID, Certificate: issued.DER, KeyURI: uri, NotBefore: issued.Certificate.NotBefore, NotAfter: issued.Certificate.NotAfter}
	return rec, s.cfg.Store.PutDelegate(ctx, rec, bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: s.now(), Actor: s.cfg.Actor, Authority: a.ID,
		Serial: issued.Certificate.Serial, KeyHash: issued.Certificate.KeyHash, Digest: issued.Certificate.Fingerprint, Detail: "OCSP delegate in service, key " + uri})
}

// delegateName is the issuer's country and organisation with a common name of its own.
func delegateName(a *authority, serial bulkhead.Serial) pkix.Name {
	const most = 64 // ub-common-name (RFC 5280 appendix A.1)
	tail := " OCSP " + serial.String()[:8]
	cn := a.cert.Subject.CommonName
	for len(cn) > most-len(tail) {
		r := []rune(cn)
		cn = string(r[:len(r)-1])
	}
	return pkix.Name{Country: a.cert.Subject.Country, Organization: a.cert.Subject.Organization, CommonName: cn + tail}
}

// dropEnded destroys the keys of delegates that have ended and forgets them.
func (s *Signer) dropEnded(ctx context.Context, a *authority, all []bulkhead.Delegate, now time.Time) {
	for _, rec := range all {
		if !now.After(rec.NotAfter) {
			continue
		}
		err := s.cfg.Keys.Destroy(ctx, rec.KeyURI)
		if bulkhead.KindOf(err) == bulkhead.KindNotFound {
			err = nil // destroyed before, and a crash came between
		}
		if err == nil {
			_, err = s.cfg.Store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: s.now(), Actor: s.cfg.Actor, Authority: a.ID,
				Digest: bulkhead.Digest(rec.Certificate), Detail: "OCSP delegate ended, key destroyed: " + rec.KeyURI})
		}
		if err == nil {
			err = s.cfg.Store.DropDelegate(ctx, a.ID, rec.KeyURI)
		}
		if err != nil {
			s.cfg.Log.WarnContext(ctx, "key of an ended OCSP delegate is still there", slog.String("key", rec.KeyURI), slog.String("error", err.Error()))
		}
	}
}
