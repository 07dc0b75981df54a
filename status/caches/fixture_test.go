package caches

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"log/slog"
	"math/big"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/edge"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// origin is an authority with a real key, a published directory and a real edge on it.
type origin struct {
	t        testing.TB
	key, del *ecdsa.PrivateKey
	cert     *x509.Certificate
	resp     *x509.Certificate
	names    ocsp.Issuer
	dir      *publish.Dir
	signer   note.Signer
	head     pack.Head
	packs    []*pack.Pack // newest first
	objects  int
	edge     *edge.Edge
	url      string
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := &origin{t: t, key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t), del: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)}
	from, to := time.Now().Add(-3*time.Hour), time.Now().Add(24*time.Hour)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tiers"}, NotBefore: from, NotAfter: to, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	o.cert = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, ca, ca, o.key.Public(), o.key))(t)))(t)
	responder := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "tiers OCSP"}, NotBefore: from, NotAfter: to, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}}}}
	o.resp = must(x509.ParseCertificate(must(x509.CreateCertificate(rand.Reader, responder, o.cert, o.del.Public(), o.key))(t)))(t)
	o.names = must(ocsp.NewIssuer(o.cert.RawSubject, o.cert.RawSubjectPublicKeyInfo))(t)
	o.dir = must(publish.NewDir(t.TempDir()))(t)
	skey, vkey, err := note.GenerateKey(rand.Reader, "tiers.test/status")
	if err != nil {
		t.Fatal(err)
	}
	o.signer = must(note.NewSigner(skey))(t)
	o.head = pack.Head{Origin: "tiers.test/status", Issuers: []pack.IssuerHead{{ID: "tiers", Epoch: 1}}}
	o.head.Issuers[0].Certificate = o.put("ca", o.cert.Raw)
	o.edge = must(edge.New(edge.Config{Source: o.dir, HeadVerifier: must(note.NewVerifier(vkey))(t), Log: slog.New(slog.DiscardHandler), Now: time.Now}))(t)
	srv := httptest.NewServer(o.edge.Handler())
	t.Cleanup(srv.Close)
	o.url = srv.URL
	return o
}

func (o *origin) put(kind string, b []byte) pack.ObjectRef {
	o.t.Helper()
	o.objects++
	ref := pack.ObjectRef{Name: fmt.Sprintf("%s/tiers/%d", kind, o.objects), Digest: bulkhead.Digest(b), Size: int64(len(b))}
	if err := o.dir.Put(o.t.Context(), publish.Object{Name: ref.Name, Body: bytes.NewReader(b)}); err != nil {
		o.t.Fatal(err)
	}
	return ref
}

func serial(n int64) bulkhead.Serial {
	s, err := bulkhead.SerialFromBig(big.NewInt(n))
	if err != nil {
		panic(err)
	}
	return s
}

// publish signs answers for serials and a CRL of those revoked, both of age, as a new head. The edge follows with Refresh.
func (o *origin) publish(age time.Duration, revoked bool, serials ...int64) {
	o.t.Helper()
	this, next := time.Now().Add(-age).Truncate(time.Second), time.Now().Add(3*time.Hour).Truncate(time.Second)
	var b bytes.Buffer
	w := must(pack.NewWriter(&b, o.names))(o.t)
	r := must(w.AddResponder(o.resp.Raw))(o.t)
	hash := must(ocsp.KeyHash(o.resp.RawSubjectPublicKeyInfo))(o.t)
	list := &x509.RevocationList{ThisUpdate: this, NextUpdate: next, Number: big.NewInt(int64(o.head.Sequence + 1))}
	for _, n := range serials {
		s := ocsp.Single{Serial: serial(n), State: ocsp.Good, ThisUpdate: this, NextUpdate: next}
		if revoked {
			s.State, s.RevokedAt, s.Reason, s.HasReason = ocsp.Revoked, this, bulkhead.KeyCompromise, true
			list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(n), RevocationTime: this})
		}
		tbs := must(ocsp.BuildLiveTBS(hash, this, []ocsp.Statement{{ID: o.names.CertID(ocsp.SHA1, s.Serial), Single: s}, {ID: o.names.CertID(ocsp.SHA256, s.Serial), Single: s}}, nil))(o.t)
		sum := sha256.Sum256(tbs)
		e := pack.Entry{Serial: s.Serial, TBS: tbs, Signature: must(ecdsa.SignASN1(rand.Reader, o.del, sum[:]))(o.t), Responder: r, ThisUpdate: this, NextUpdate: next, Revoked: revoked}
		if err := w.Add(e); err != nil {
			o.t.Fatal(err)
		}
	}
	must(w.Finish())(o.t)
	o.packs = append([]*pack.Pack{must(pack.Open(b.Bytes()))(o.t)}, o.packs...)
	x := &o.head.Issuers[0]
	x.Generation++
	x.Packs = append([]pack.ObjectRef{o.put("packs", b.Bytes())}, x.Packs...)
	o.head.Sequence++
	o.head.At = time.Now()
	crl := must(x509.CreateRevocationList(rand.Reader, list, o.cert, o.key))(o.t)
	x.CRLs = []pack.CRLRef{{Shard: 0, Number: list.Number.Int64(), ThisUpdate: this.UTC(), NextUpdate: next.UTC(), ObjectRef: o.put("crl", crl)}}
	if err := o.dir.SetHead(o.t.Context(), must(pack.SignHead(must(o.head.Body())(o.t), o.signer))(o.t)); err != nil {
		o.t.Fatal(err)
	}
}

func (o *origin) refresh() {
	o.t.Helper()
	if err := o.edge.Refresh(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
}

// targets are the published answers for serials and the CRL.
func (o *origin) targets(serials ...int64) Targets {
	o.t.Helper()
	var out Targets
	for _, n := range serials {
		a, ok, err := Find("tiers", o.cert, o.packs, serial(n))
		if err != nil || !ok {
			o.t.Fatalf("serial %d: %v %v", n, ok, err)
		}
		out.Answers = append(out.Answers, a)
	}
	out.Lists = []List{{Ref: o.head.Issuers[0].CRLs[0], ID: "tiers", Issuer: o.cert}}
	return out
}

func (o *origin) caches(log *slog.Logger, tiers ...Tier) *Caches {
	o.t.Helper()
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := must(New(Config{Tiers: tiers, Base: "http://status.test", Timeout: 5 * time.Second, Now: time.Now, Log: log}))(o.t)
	o.t.Cleanup(c.Close)
	return c
}
