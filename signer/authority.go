package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"bulkhead"
	"bulkhead/pki/fixedkey"
)

// authority is an authority as read from the record a moment ago, with what is costly to make kept from before.
type authority struct {
	bulkhead.Authority
	cert  *x509.Certificate
	above []*x509.Certificate // cert and what stands above it, nearest first: whose name constraints hold
	key   crypto.Signer       // nil when the key is offline
	hash  bulkhead.Hash       // SHA-256 of the SPKI: the key's name in evidence
	check *fixedkey.Issuer    // cert's signatures
}

// authority reads the record each time, because the state of an authority may have changed; certificate and key are
// parsed and opened again only when they differ. A root is taken as offline whatever the record says (P6), and a key that is
// destroyed as gone.
func (s *Signer) authority(ctx context.Context, id bulkhead.AuthorityID) (*authority, error) {
	if err := id.Check(); err != nil {
		return nil, err
	}
	a, err := s.lookups.do(ctx.Done(), id)
	if errors.Is(err, errNotTaken) {
		return nil, unavailable("the request was given up", ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	copied := *a
	return &copied, nil
}

func (s *Signer) known(ctx context.Context, rec bulkhead.Authority) (*authority, error) {
	if rec.Kind == bulkhead.RootAuthority || rec.Dead() {
		rec.KeyURI = ""
	}
	if v, ok := s.authorities.Load(rec.ID); ok {
		a := *v.(*authority)
		if a.KeyURI == rec.KeyURI && bytes.Equal(a.Certificate, rec.Certificate) && bytes.Equal(a.SPKI, rec.SPKI) &&
			slices.EqualFunc(a.Chain, rec.Chain, bytes.Equal) {
			a.Authority = rec
			return &a, nil
		}
	}
	if len(rec.Certificate) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "authority %s has no certificate yet", rec.ID).WithHint("bring its certificate in: bulkhead hierarchy add")
	}
	cert, err := x509.ParseCertificate(rec.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate of authority %s: %w", rec.ID, err)
	}
	if !bytes.Equal(cert.RawSubjectPublicKeyInfo, rec.SPKI) || !bytes.Equal(cert.RawSubject, rec.Subject) {
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "the certificate of authority %s is for another name or key than its record", rec.ID).WithHint("see: bulkhead fsck")
	}
	a := &authority{Authority: rec, cert: cert, above: []*x509.Certificate{cert}, hash: bulkhead.Digest(rec.SPKI), check: fixedkey.New(cert)}
	for _, der := range rec.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("chain of authority %s: %w", rec.ID, err)
		}
		a.above = append(a.above, c)
	}
	if rec.KeyURI != "" {
		if a.key, err = s.open(ctx, rec.KeyURI, cert.PublicKey); err != nil {
			return nil, err
		}
	}
	s.authorities.Store(rec.ID, a)
	copied := *a
	return &copied, nil
}

// publicKey is what every public key of the standard library can do.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// open opens a key and checks that it is the one meant.
func (s *Signer) open(ctx context.Context, uri string, want crypto.PublicKey) (crypto.Signer, error) {
	key, err := s.cfg.Keys.Open(ctx, uri)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "key %s cannot be opened", uri).WithHint("see: bulkhead doctor").WithCause(err)
	}
	if pub, ok := key.Public().(publicKey); !ok || !pub.Equal(want) {
		s.cfg.Log.ErrorContext(ctx, "a key is not the one its certificate is for", slog.String("key", uri))
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "key %s is not the key of its certificate", uri).WithHint("restore the right key file; see: bulkhead fsck")
	}
	return key, nil
}

// mayIssue says whether the authority may sign certificates of a kind now.
func (a *authority) mayIssue(kind bulkhead.AuthorityKind) error {
	switch {
	case a.Kind != kind:
		return bulkhead.Faultf(bulkhead.KindForbidden, "authority %s is of kind %s and does not sign these certificates", a.ID, a.Kind).WithHint("choose an issuing authority: bulkhead hierarchy show")
	case a.State != bulkhead.AuthorityActive:
		f := bulkhead.Faultf(bulkhead.KindConflict, "authority %s is %s and issues nothing new", a.ID, a.State)
		if a.Successor != "" {
			return f.WithHint("use its successor " + string(a.Successor))
		}
		return f.WithHint("choose an active authority: bulkhead hierarchy show")
	case a.key == nil:
		return bulkhead.Faultf(bulkhead.KindConflict, "the key of authority %s is offline", a.ID).WithHint("choose an authority whose key is online: bulkhead hierarchy show")
	}
	return nil
}

// chain is what a client needs besides its certificate: issuer first, root last.
func (a *authority) chain() [][]byte {
	return append([][]byte{a.Certificate}, a.Chain...)
}

// hinted adds the next step to a fault of the record that has none.
func hinted(err error, hint string) error {
	f := *bulkhead.AsFault(err)
	if f.Hint == "" {
		f.Hint = hint
	}
	return &f
}
