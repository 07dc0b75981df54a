package crl

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"bulkhead"
)

func element(tag byte, contents ...[]byte) []byte {
	all := bytes.Join(contents, nil)
	return append(appendHeader(nil, tag, int64(len(all))), all...)
}

func extn(oid string, critical bool, value []byte) []byte {
	parts := [][]byte{element(6, []byte(oid))}
	if critical {
		parts = append(parts, []byte{1, 1, 0xff})
	}
	return element(0x30, append(parts, element(4, value))...)
}

// crafted is a CRL of which every part can be replaced; nil leaves a part out. The signature is empty talk.
type crafted struct {
	version, inner, outer, issuer, this, next, entries, extensions, behind []byte
}

var (
	utc      = element(0x17, []byte("261121120000Z"))
	utcNext  = element(0x17, []byte("261128120000Z"))
	aEntry   = element(0x30, []byte{2, 1, 5}, utc)
	extAKI   = extn(oidAKI, false, element(0x30, element(0x80, []byte{1, 2, 3})))
	extNum   = extn(oidCRLNumber, false, []byte{2, 1, 9})
	theURI   = element(0x86, []byte("http://crl.test/1"))
	point    = element(0xa0, element(0xa0, theURI))
	yes      = []byte{0xff}
	craftExt = func(more ...[]byte) []byte {
		return element(0xa0, element(0x30, append([][]byte{extAKI, extNum}, more...)...))
	}
)

func craft(f func(c *crafted)) []byte {
	alg := []byte(p256SHA256.identifier)
	c := crafted{version: []byte{2, 1, 1}, inner: alg, outer: alg, issuer: element(0x30), this: utc, next: utcNext, entries: element(0x30, aEntry), extensions: craftExt()}
	f(&c)
	tbs := element(0x30, c.version, c.inner, c.issuer, c.this, c.next, c.entries, c.extensions, c.behind)
	return element(0x30, tbs, c.outer, element(3, []byte{0, 1}))
}

func entries(list ...[]byte) func(c *crafted) {
	return func(c *crafted) { c.entries = element(0x30, list...) }
}

func withExt(more ...[]byte) func(c *crafted) {
	return func(c *crafted) { c.extensions = craftExt(more...) }
}

func idp(critical bool, parts ...[]byte) func(c *crafted) {
	return withExt(extn(oidIDP, critical, element(0x30, parts...)))
}

func entryExt(list ...[]byte) func(c *crafted) {
	return entries(element(0x30, []byte{2, 1, 5}, utc, element(0x30, list...)))
}

func crlNumber(value []byte) func(c *crafted) {
	return func(c *crafted) {
		c.extensions = element(0xa0, element(0x30, extAKI, extn(oidCRLNumber, false, value)))
	}
}

// malformed is one CRL of each kind that must be refused.
func malformed() map[string][]byte {
	good := craft(func(*crafted) {})
	return map[string][]byte{
		"nothing":                 nil,
		"truncated":               good[:len(good)-1],
		"trailing":                append(append([]byte(nil), good...), 0),
		"indefinite":              append(append([]byte{0x30, 0x80}, good[2:]...), 0, 0),
		"v1":                      craft(func(c *crafted) { c.version = nil }),
		"v3":                      craft(func(c *crafted) { c.version = []byte{2, 1, 2} }),
		"algorithms differ":       craft(func(c *crafted) { c.outer = []byte(rsaSHA256.identifier) }),
		"no issuer":               craft(func(c *crafted) { c.issuer = nil }),
		"no nextUpdate":           craft(func(c *crafted) { c.next = nil }),
		"generalized before 2050": craft(func(c *crafted) { c.this = element(0x18, []byte("20261121120000Z")) }),
		"no seconds":              craft(func(c *crafted) { c.this = element(0x17, []byte("2611211200Z")) }),
		"offset":                  craft(func(c *crafted) { c.this = element(0x17, []byte("261121120000+0000")) }),
		"30 February":             craft(func(c *crafted) { c.this = element(0x17, []byte("260230120000Z")) }),
		"month 13":                craft(func(c *crafted) { c.this = element(0x17, []byte("261321120000Z")) }),
		"month 0":                 craft(func(c *crafted) { c.this = element(0x17, []byte("260021120000Z")) }),
		"hour 24":                 craft(func(c *crafted) { c.this = element(0x17, []byte("261121240000Z")) }),
		"letters":                 craft(func(c *crafted) { c.this = element(0x17, []byte("26112112000aZ")) }),
		"empty list":              craft(func(c *crafted) { c.entries = element(0x30) }),
		"no extensions":           craft(func(c *crafted) { c.extensions = nil }),
		"empty extensions":        craft(func(c *crafted) { c.extensions = element(0xa0, element(0x30)) }),
		"something behind":        craft(func(c *crafted) { c.behind = []byte{5, 0} }),
		"no number":               craft(func(c *crafted) { c.extensions = element(0xa0, element(0x30, extAKI)) }),
		"no AKI":                  craft(func(c *crafted) { c.extensions = element(0xa0, element(0x30, extNum)) }),
		"AKI without identifier": craft(func(c *crafted) {
			c.extensions = element(0xa0, element(0x30, extNum, extn(oidAKI, false, element(0x30))))
		}),
		"number twice":           craft(withExt(extNum)),
		"negative number":        craft(crlNumber([]byte{2, 1, 0xff})),
		"number not minimal":     craft(crlNumber([]byte{2, 2, 0, 1})),
		"number of 21 octets":    craft(crlNumber(element(2, bytes.Repeat([]byte{1}, 21)))),
		"delta":                  craft(withExt(extn("\x55\x1d\x1b", true, []byte{2, 1, 1}))),
		"IDP not critical":       craft(idp(false, point)),
		"IDP empty":              craft(idp(true)),
		"IDP two names":          craft(idp(true, element(0xa0, element(0xa0, theURI, theURI)))),
		"IDP relative name":      craft(idp(true, element(0xa0, element(0xa1, theURI)))),
		"IDP with a space":       craft(idp(true, element(0xa0, element(0xa0, element(0x86, []byte("http://a b")))))),
		"IDP some reasons":       craft(idp(true, point, element(0x83, []byte{1, 6}))),
		"IDP indirect":           craft(idp(true, point, element(0x84, yes))),
		"IDP attributes":         craft(idp(true, point, element(0x85, yes))),
		"IDP both scopes":        craft(idp(true, point, element(0x81, yes), element(0x82, yes))),
		"IDP flag of 1":          craft(idp(true, point, element(0x81, []byte{1}))),
		"IDP unknown":            craft(idp(true, point, element(0x86, yes))),
		"entry of octets":        craft(entries(element(4, []byte{2, 1, 5}, utc))),
		"serial zero":            craft(entries(element(0x30, []byte{2, 1, 0}, utc))),
		"serial negative":        craft(entries(element(0x30, []byte{2, 1, 0x80}, utc))),
		"serial not minimal":     craft(entries(element(0x30, []byte{2, 2, 0, 5}, utc))),
		"serial of 21 octets":    craft(entries(element(0x30, element(2, bytes.Repeat([]byte{1}, 21)), utc))),
		"entry without date":     craft(entries(element(0x30, []byte{2, 1, 5}))),
		"entry with more":        craft(entries(element(0x30, []byte{2, 1, 5}, utc, []byte{5, 0}))),
		"entry empty extensions": craft(entryExt()),
		"reason twice":           craft(entryExt(extn(oidReason, false, []byte{10, 1, 1}), extn(oidReason, false, []byte{10, 1, 1}))),
		"reason 7":               craft(entryExt(extn(oidReason, false, []byte{10, 1, 7}))),
		"reason 11":              craft(entryExt(extn(oidReason, false, []byte{10, 1, 11}))),
		"reason as integer":      craft(entryExt(extn(oidReason, false, []byte{2, 1, 1}))),
		"invalidity as UTCTime":  craft(entryExt(extn(oidInvalidityDate, false, utc))),
		"certificateIssuer":      craft(entryExt(extn("\x55\x1d\x1d", true, element(0x30)))),
		"second entry malformed": craft(entries(aEntry, []byte{5, 0})),
	}
}

func TestMalformed(t *testing.T) {
	if _, err := Parse(craft(func(*crafted) {}), nil); err != nil {
		t.Fatalf("the unbroken one is refused: %v", err)
	}
	for name, der := range malformed() {
		called := false
		_, err := Parse(der, func(Entry) error { called = true; return nil })
		if bulkhead.KindOf(err) != bulkhead.KindMalformed || called {
			t.Errorf("%s: %v, entries shown: %v", name, err, called)
		}
	}
}

func TestUnusual(t *testing.T) {
	for name, der := range map[string][]byte{
		"unsorted":                craft(entries(element(0x30, []byte{2, 1, 9}, utc), aEntry)),
		"unknown extension":       craft(withExt(extn("\x2a\x03", false, nil))),
		"unknown entry extension": craft(entryExt(extn("\x2a\x03", false, nil), extn(oidReason, false, []byte{10, 1, 1}))),
		"explicit reason 0":       craft(entryExt(extn(oidReason, false, []byte{10, 1, 0}))),
		"number of 20 octets":     craft(crlNumber(element(2, bytes.Repeat([]byte{0x7f}, 20)))),
		"IDP scope alone":         craft(idp(true, element(0x82, yes))),
		"AKI with issuer": craft(func(c *crafted) {
			c.extensions = element(0xa0, element(0x30, extNum, extn(oidAKI, false, element(0x30, element(0x80, []byte{1}), element(0xa1, theURI), element(0x82, []byte{1})))))
		}),
	} {
		p, err := Parse(der, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Ascending != (name != "unsorted") {
			t.Errorf("%s: ascending %v", name, p.Ascending)
		}
		if name == "IDP scope alone" && (p.Scope != ScopeCACerts || p.URL != "" || !p.HasIDP) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p, _ := Parse(craft(entries(aEntry, aEntry)), nil); p == nil || p.Ascending {
		t.Error("a serial twice counts as ascending")
	}
	stop := errors.New("stop")
	if _, err := Parse(craft(entries(aEntry, aEntry)), func(Entry) error { return stop }); err != stop {
		t.Errorf("the callback's error became %v", err)
	}
}

// TestReadsGo reads a list made by Go's own encoder.
func TestReadsGo(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(12), ThisUpdate: epoch, NextUpdate: epoch.AddDate(30, 0, 0),
		RevokedCertificateEntries: []x509.RevocationListEntry{{
			SerialNumber: big.NewInt(0xff), RevocationTime: epoch, ReasonCode: 4,
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 24}, Value: element(0x18, []byte("20200101000000Z"))}},
		}},
	}, p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, list := read(t, der)
	want := Entry{Serial: serial(t, "ff"), RevokedAt: epoch, Reason: bulkhead.Superseded, InvalidityDate: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}
	if len(list) != 1 || list[0] != want || parsed.Number.Int64() != 12 || !parsed.NextUpdate.Equal(epoch.AddDate(30, 0, 0)) {
		t.Errorf("%+v %+v", parsed, list)
	}
	if err := parsed.Verify(p.cert); err != nil {
		t.Error(err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	der := makeCRL(t, p, p.info(), sample(t)...)
	if parsed, _ := read(t, der); parsed.Verify(p.cert) != nil {
		t.Fatal("the unbroken one is refused")
	}
	for name, c := range map[string]struct {
		edit   func(q *Parsed)
		issuer *x509.Certificate
	}{
		"no issuer":     {nil, nil},
		"other key":     {nil, editCert(newParty(t, ecKey(t, elliptic.P256())).cert, func(c *x509.Certificate) { c.SubjectKeyId = p.cert.SubjectKeyId })},
		"other keyid":   {nil, editCert(p.cert, func(c *x509.Certificate) { c.SubjectKeyId = []byte{1} })},
		"other name":    {nil, editCert(p.cert, func(c *x509.Certificate) { c.RawSubject = []byte{0x30, 0} })},
		"no cRLSign":    {nil, editCert(p.cert, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })},
		"no CA":         {nil, editCert(p.cert, func(c *x509.Certificate) { c.IsCA = false })},
		"algorithm":     {func(q *Parsed) { q.SignatureAlgorithm = x509.UnknownSignatureAlgorithm }, p.cert},
		"bit in TBS":    {func(q *Parsed) { q.TBS = append([]byte(nil), q.TBS...); q.TBS[len(q.TBS)/2] ^= 1 }, p.cert},
		"bit in signed": {func(q *Parsed) { q.Signature = append([]byte(nil), q.Signature...); q.Signature[20] ^= 1 }, p.cert},
	} {
		parsed, _ := read(t, der)
		if c.edit != nil {
			c.edit(parsed)
		}
		if err := parsed.Verify(c.issuer); bulkhead.KindOf(err) != bulkhead.KindGate {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse: never panics; where Go's parser also reads the list, both read the same; and what we read and would write
// is read back the same.
func FuzzParse(f *testing.F) {
	p := newParty(f, ecKey(f, elliptic.P256()))
	f.Add(makeCRL(f, p, p.info(), sample(f)...))
	f.Add(makeCRL(f, p, p.info()))
	f.Add(craft(func(*crafted) {}))
	f.Add(craft(entryExt(extn("\x2a\x03", false, nil), extn(oidReason, false, []byte{10, 1, 1}))))
	for _, der := range malformed() {
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		var list []Entry
		ours, err := Parse(der, func(e Entry) error { list = append(list, e); return nil })
		if err != nil {
			return
		}
		if len(list) != ours.Entries {
			t.Fatalf("%d entries shown, %d counted", len(list), ours.Entries)
		}
		if theirs, err := x509.ParseRevocationList(der); err == nil {
			compareParsed(t, ours, list, theirs)
		}
		var c Encoder
		var out []byte
		for _, e := range list {
			if out, err = c.Append(out[:0], &e); err != nil {
				return // out of order, or a reason we do not write
			}
			in, back := cryptobyte.String(out), Entry{}
			if parseEntry(&in, &back) != "" || back != e {
				t.Fatalf("%+v became %+v", e, back)
			}
		}
	})
}

func compareParsed(t *testing.T, ours *Parsed, list []Entry, theirs *x509.RevocationList) {
	t.Helper()
	if !bytes.Equal(ours.TBS, theirs.RawTBSRevocationList) || !bytes.Equal(ours.Signature, theirs.Signature) || !bytes.Equal(ours.IssuerName, theirs.RawIssuer) ||
		!ours.ThisUpdate.Equal(theirs.ThisUpdate) || !ours.NextUpdate.Equal(theirs.NextUpdate) || ours.Number.Cmp(theirs.Number) != 0 ||
		!bytes.Equal(ours.AKI, theirs.AuthorityKeyId) || len(list) != len(theirs.RevokedCertificateEntries) {
		t.Fatalf("Go reads %+v, we read %+v", theirs, ours)
	}
	if ours.SignatureAlgorithm != x509.UnknownSignatureAlgorithm && ours.SignatureAlgorithm != theirs.SignatureAlgorithm {
		t.Fatalf("Go reads %v, we read %v", theirs.SignatureAlgorithm, ours.SignatureAlgorithm)
	}
	for i, e := range theirs.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(list[i].Serial.Big()) != 0 || !e.RevocationTime.Equal(list[i].RevokedAt) || e.ReasonCode != int(list[i].Reason) {
			t.Fatalf("Go reads entry %+v, we read %+v", e, list[i])
		}
	}
}
