package live

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"log/slog"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// look learns of authorities and makes or renews their delegates. With strict, a delegate that is refused is an error.
func (s *Switch) look(ctx context.Context, strict bool) error {
	ctx, cancel := context.WithTimeout(ctx, 4*doorTimeout)
	defer cancel()
	all, err := s.cfg.Door.LiveAuthorities(ctx)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "authorities for live answers cannot be read", slog.String("error", err.Error()))
		return nil
	}
	known := map[bulkhead.AuthorityID]*service{}
	for _, v := range *s.services.Load() {
		known[v.id] = v
	}
	var list []*service
	for _, a := range all {
		v := known[a.ID]
		if v == nil {
			if v, err = newService(a); err != nil {
				return err
			}
		}
		delete(known, a.ID)
		list = append(list, v)
		err := s.renew(ctx, v)
		if err == nil {
			continue
		}
		s.cfg.Log.ErrorContext(ctx, "no new live delegate", slog.String("authority", string(a.ID)), slog.String("error", err.Error()))
		if strict && bulkhead.KindOf(err) == bulkhead.KindGate {
			return err
		}
	}
	for _, v := range known {
		v.leave() // it answers no more; what it signed is still to be accounted for
		if v.owes() {
			list = append(list, v)
		}
	}
	s.services.Store(&list)
	return nil
}

func newService(a bulkhead.Authority) (*service, error) {
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of authority %s: %w", a.ID, err)
	}
	issuer, err := ocsp.NewIssuer(a.Subject, a.SPKI)
	if err != nil {
		return nil, err
	}
	return &service{id: a.ID, issuer: issuer, cert: cert}, nil
}

func (v *service) leave() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.end()
	v.delegate = nil
}

func (v *service) owes() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.ended) > 0 || v.opening != nil
}

// renew makes a delegate when there is none, or at half of its validity. The old key is forgotten with its last window.
func (s *Switch) renew(ctx context.Context, v *service) error {
	now := s.cfg.Now()
	v.mu.Lock()
	old := v.delegate
	v.mu.Unlock()
	if old != nil {
		c := old.cert
		if now.Before(c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore)/2)) || !c.NotAfter.Before(v.cert.NotAfter) && now.Before(c.NotAfter) {
			return nil
		}
	}
	d, err := s.makeDelegate(ctx, v, now)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.delegate, v.failed = d, nil
	v.end() // the next answer opens a window for the new one
	return nil
}

func (s *Switch) makeDelegate(ctx context.Context, v *service, now time.Time) (*delegate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), s.cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("live delegate's key: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(s.cfg.Rand, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("live delegate's request: %w", err)
	}
	issued, err := s.cfg.Door.CertifyLive(ctx, v.id, csr)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindGate, "the live delegate's certificate cannot be read").WithCause(err)
	}
	if err := check(cert, v.cert, key, now); err != nil {
		return nil, err
	}
	d := &delegate{key: key, cert: cert, hash: bulkhead.Digest(cert.RawSubjectPublicKeyInfo)}
	d.responder, err = ocsp.KeyHash(cert.RawSubjectPublicKeyInfo)
	return d, err
}
