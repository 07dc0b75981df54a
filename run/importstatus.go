package run

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/importer"
	"bulkhead/keys"
	"bulkhead/pki/crl"
	"bulkhead/pki/ocsp"
)

// This file has a foreign authority's status published here. Its key stays where it is: it signs an OCSP delegate for a key that
// this house made, and its own CRLs.

// delegateKey is how the keys of delegates of a foreign authority are named.
func delegateKey(id bulkhead.AuthorityID) string { return "foreign-ocsp-" + string(id) }

// ImportRequest makes a key for an OCSP delegate in the signer's ring and writes the request for its certificate. Nothing else
// changes: the key is of no use before the authority has signed.
func ImportRequest(ctx context.Context, o ImportOptions, file string) error {
	if err := o.Authority.Check(); err != nil {
		return err
	}
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return err
	}
	ring, err := openRing(o.Dir, cfg)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be made", file).WithCause(err).WithHint("name a file that is not there yet: --ocsp-request FILE")
	}
	var tail [4]byte
	if _, err := rand.Read(tail[:]); err != nil {
		return errors.Join(err, out.Close())
	}
	subject := ceremony.Name{CommonName: string(o.Authority) + " OCSP " + cfg.House, Organization: cfg.Organization, Country: cfg.Country}
	req, err := ceremony.NewCSR(ctx, ring, delegateKey(o.Authority)+"-"+hex.EncodeToString(tail[:]), subject, keys.P256)
	if err != nil {
		return errors.Join(err, out.Close(), os.Remove(file))
	}
	return errors.Join(pem.Encode(out, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: req.CSR}), out.Sync(), out.Close())
}

// readDelegate judges a delegate as the signer and every client will, and finds its key, before anything is changed.
func (im *intake) readDelegate(ctx context.Context, cfg Config) error {
	if im.o.Delegate == "" {
		return nil
	}
	body, err := os.ReadFile(im.o.Delegate)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "--ocsp-delegate: %s cannot be read", im.o.Delegate).WithCause(err)
	}
	var cert *x509.Certificate
	if block, _ := pem.Decode(body); block != nil {
		cert, err = x509.ParseCertificate(block.Bytes)
	}
	if cert == nil {
		return bulkhead.Faultf(bulkhead.KindMalformed, "--ocsp-delegate: %s is no certificate in PEM", im.o.Delegate).WithCause(err)
	}
	if err := ocsp.CheckDelegate(cert, im.set.Authority, im.o.Now()); err != nil {
		return err
	}
	ring, err := openRing(im.o.Dir, cfg)
	if err != nil {
		return err
	}
	uris, err := ring.List(ctx)
	if err != nil {
		return err
	}
	for _, uri := range uris {
		if !strings.Contains(uri, delegateKey(im.o.Authority)) {
			continue
		}
		key, err := ring.Open(ctx, uri)
		if err != nil {
			return err
		}
		if spki, err := x509.MarshalPKIXPublicKey(key.Public()); err == nil && bytes.Equal(spki, cert.RawSubjectPublicKeyInfo) {
			im.delegate = &bulkhead.Delegate{Authority: im.o.Authority, Certificate: cert.Raw, KeyURI: uri, NotBefore: cert.NotBefore.UTC(), NotAfter: cert.NotAfter.UTC()}
			return nil
		}
	}
	return bulkhead.Faultf(bulkhead.KindGate, "the key of the delegate in %s is not in the signer's ring of this house", im.o.Delegate).
		WithHint("make key and request here, on the signer's machine, and have the authority sign that: bulkhead import --name " + string(im.o.Authority) + " --ocsp-request FILE")
}

// serve puts the newest CRL of the input and the delegate into the record, once the certificates are there.
func (im *intake) serve(ctx context.Context) error {
	im.r.Served = im.state == bulkhead.AuthorityForeignServed || im.delegate != nil
	if !im.r.Served {
		return nil
	}
	if err := im.keepCRL(ctx); err != nil || im.delegate == nil || im.o.DryRun {
		return err
	}
	ev := bulkhead.Evidence{Kind: bulkhead.EvForeignDelegate, At: im.o.Now().UTC(), Actor: "role:import", Authority: im.o.Authority, Ref: im.id, Digest: bulkhead.Digest(im.delegate.Certificate),
		Detail: "a delegate answers here until " + im.delegate.NotAfter.Format(time.RFC3339)}
	cert, err := x509.ParseCertificate(im.delegate.Certificate)
	if err != nil {
		return fmt.Errorf("delegate: %w", err)
	}
	ev.KeyHash = bulkhead.Digest(cert.RawSubjectPublicKeyInfo)
	if err := im.store.PutDelegate(ctx, *im.delegate, ev); err != nil || im.state == bulkhead.AuthorityForeignServed {
		return err
	}
	ev.Kind, ev.Digest, ev.Detail = bulkhead.EvAuthority, bulkhead.Digest(im.set.Authority.Raw), "its status is published here from now on"
	ev.KeyHash = bulkhead.Digest(im.set.Authority.RawSubjectPublicKeyInfo)
	return im.store.MoveAuthority(ctx, im.row(bulkhead.AuthorityForeignServed, nil), bulkhead.AuthorityForeign, ev)
}

// keepCRL keeps the newest CRL for publication when the house could have said the same: it is complete, and agrees with the
// record. Else it is a problem, and what was public stays public.
func (im *intake) keepCRL(ctx context.Context) error {
	list := im.set.Newest
	if list == nil {
		return nil
	}
	have, err := im.store.Prepared(ctx, im.o.Authority)
	if err != nil {
		return err
	}
	for _, p := range have {
		if p.Kind == bulkhead.PreparedCRL && list.Number.IsInt64() && p.CRLNumber >= list.Number.Int64() {
			if bytes.Equal(p.DER, list.Raw) {
				im.r.CRL = p.CRLNumber
			}
			return nil // known, or older than one that is
		}
	}
	why, err := im.unlike(ctx, list)
	if err != nil {
		return err
	}
	if why != "" {
		im.r.Problems = append(im.r.Problems, importer.Problem{File: list.File, Line: list.Line, Reason: "what this CRL says is taken, but it is not published here: " + why})
		return nil
	}
	im.r.CRL = list.Number.Int64()
	if im.o.DryRun {
		return nil
	}
	now := im.o.Now().UTC()
	return im.store.PutPrepared(ctx, []bulkhead.Prepared{{Authority: im.o.Authority, Kind: bulkhead.PreparedCRL, NotBefore: list.ThisUpdate.UTC(), NotAfter: list.NextUpdate.UTC(), DER: list.Raw,
		CRLNumber: im.r.CRL, ImportedAt: now}},
		bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: now, Actor: "role:import", Authority: im.o.Authority, Ref: im.id, Digest: bulkhead.Digest(list.Raw), Count: im.r.CRL,
			Detail: fmt.Sprintf("CRL %d, which it signed, is published here until %s", im.r.CRL, list.NextUpdate.UTC().Format(time.RFC3339))})
}

// unlike says why a CRL cannot be published beside the answers that are made of the record.
func (im *intake) unlike(ctx context.Context, list *importer.CRL) (string, error) {
	seen := make(map[bulkhead.Serial]crl.Entry, len(list.RevokedCertificateEntries))
	parsed, err := crl.Parse(list.Raw, func(e crl.Entry) error { seen[e.Serial] = e; return nil })
	switch {
	case err != nil:
		return bulkhead.AsFault(err).Detail, nil
	case !list.Number.IsInt64():
		return "its number is larger than 2^63", nil
	case !im.o.Now().Before(parsed.NextUpdate):
		return "it ended at " + parsed.NextUpdate.UTC().Format(time.RFC3339), nil
	}
	var after bulkhead.Serial
	for {
		page, err := im.store.StatusPage(ctx, im.o.Authority, after, time.Time{}, importBatch)
		if err != nil {
			return "", err
		}
		for _, st := range page {
			e, listed := seen[st.Serial]
			delete(seen, st.Serial)
			if im.o.DryRun && st.Reason == bulkhead.CertificateHold { // it might have ended the hold
				continue
			}
			switch {
			case st.State != bulkhead.Revoked && listed && !im.o.DryRun:
				return fmt.Sprintf("it lists %s, which is not revoked in the record", st.Serial), nil
			case st.State == bulkhead.Revoked && !listed && !st.NotAfter.Before(parsed.ThisUpdate):
				return fmt.Sprintf("it does not list %s, which is revoked in the record", st.Serial), nil
			case st.State == bulkhead.Revoked && listed && (e.Reason != st.Reason || !e.RevokedAt.Equal(st.RevokedAt)):
				return fmt.Sprintf("it says of %s: %s at %s, the record says %s at %s", st.Serial, e.Reason, e.RevokedAt.UTC().Format(time.RFC3339), st.Reason, st.RevokedAt.UTC().Format(time.RFC3339)), nil
			}
		}
		if len(page) < importBatch {
			break
		}
		after = page[len(page)-1].Serial
	}
	for serial := range seen {
		if !im.o.DryRun {
			return fmt.Sprintf("it lists %s, whose certificate was not given", serial), nil
		}
	}
	return "", nil
}
