package crl

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

func sample(t testing.TB) []Entry {
	return []Entry{
		{Serial: serial(t, "01"), RevokedAt: epoch.Add(-time.Hour)},
		{Serial: serial(t, "7f"), RevokedAt: epoch.Add(-2 * time.Hour), Reason: bulkhead.KeyCompromise},
		{Serial: serial(t, "80"), RevokedAt: time.Date(1999, 12, 31, 23, 59, 59, 0, time.UTC), Reason: bulkhead.Superseded, InvalidityDate: time.Date(1998, 2, 3, 4, 5, 6, 0, time.UTC)},
		{Serial: serial(t, "ffff"), RevokedAt: time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC), InvalidityDate: epoch},
		{Serial: serial(t, "7fffffffffffffffffffffffffffffffffffffff"), RevokedAt: time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC), Reason: bulkhead.PrivilegeWithdrawn},
	}
}

// TestAgainstOthers: every key type, read by us, by Go and by OpenSSL, which verifies it.
func TestAgainstOthers(t *testing.T) {
	for name, key := range map[string]crypto.Signer{"P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "RSA": rsaKey(t)} {
		t.Run(name, func(t *testing.T) {
			p, want := newParty(t, key), sample(t)
			der := makeCRL(t, p, p.info(), want...)
			parsed, got := read(t, der)
			if !slices.Equal(got, want) {
				t.Errorf("read back %+v\nwrote %+v", got, want)
			}
			if err := parsed.Verify(p.cert); err != nil {
				t.Error(err)
			}
			if parsed.Number.Int64() != 7 || parsed.URL != p.info().URL || parsed.Scope != ScopeUserCerts || !parsed.Ascending || parsed.Entries != len(want) ||
				!parsed.ThisUpdate.Equal(epoch) || !parsed.NextUpdate.Equal(p.info().NextUpdate) {
				t.Errorf("read back %+v", parsed)
			}
			compareWithGo(t, p, der, want)
			compareWithOpenSSL(t, p, der, want)
		})
	}
}

func compareWithGo(t *testing.T, p party, der []byte, want []Entry) {
	t.Helper()
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(p.cert); err != nil {
		t.Error(err)
	}
	if list.Number.Int64() != 7 || !bytes.Equal(list.AuthorityKeyId, p.cert.SubjectKeyId) || len(list.RevokedCertificateEntries) != len(want) {
		t.Errorf("Go reads %+v", list)
	}
	for i, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(want[i].Serial.Big()) != 0 || !e.RevocationTime.Equal(want[i].RevokedAt) || e.ReasonCode != int(want[i].Reason) {
			t.Errorf("Go reads %+v for %+v", e, want[i])
		}
	}
}

func compareWithOpenSSL(t *testing.T, p party, der []byte, want []Entry) {
	t.Helper()
	ca := file(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}))
	out := openssl(t, "crl", "-inform", "DER", "-in", file(t, "x.crl", der), "-noout", "-text", "-verify", "-CAfile", ca)
	for _, w := range []string{
		"verify OK", "Version 2 (0x1)", "X509v3 CRL Number: \n                7", "X509v3 Issuing Distribution Point: critical", "URI:http://crl.test/crl/issuing/3.crl",
		"Only User Certificates", "Key Compromise", "Superseded", "Privilege Withdrawn", "Feb  3 04:05:06 1998 GMT",
		"Revocation Date: Jan  1 00:00:00 2050 GMT", "Revocation Date: Dec 31 23:59:59 1999 GMT", "Last Update: " + epoch.Format("Jan _2 15:04:05 2006 GMT"),
	} {
		if !strings.Contains(out, w) {
			t.Errorf("openssl does not print %q:\n%s", w, out)
		}
	}
	for _, e := range want {
		if !strings.Contains(out, strings.ToUpper(e.Serial.String())) {
			t.Errorf("openssl does not print %s", e.Serial)
		}
	}
	if n := strings.Count(out, "Serial Number:"); n != len(want) {
		t.Errorf("openssl prints %d entries", n)
	}
}

// TestEmpty: revokedCertificates is absent, and a full CRL has no distribution point.
func TestEmpty(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	info := p.info()
	info.URL, info.Scope = "", ScopeAll
	der := makeCRL(t, p, info)
	parsed, list := read(t, der)
	if len(list) != 0 || parsed.HasIDP || parsed.URL != "" {
		t.Errorf("%+v", parsed)
	}
	out := openssl(t, "crl", "-inform", "DER", "-in", file(t, "x.crl", der), "-noout", "-text")
	if !strings.Contains(out, "No Revoked Certificates.") || strings.Contains(out, "Distribution Point") {
		t.Error(out)
	}
}

// TestUnionOfShards: what the shards say together is what the full CRL says.
func TestUnionOfShards(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	var all []Entry
	shards := make([][]Entry, 5)
	i := 0
	for _, e := range numbered(1000) {
		all, shards[i%5] = append(all, e), append(shards[i%5], e)
		i++
	}
	_, full := read(t, makeCRL(t, p, p.info(), all...))
	var union []Entry
	for _, s := range shards {
		_, part := read(t, makeCRL(t, p, p.info(), s...))
		union = append(union, part...)
	}
	slices.SortFunc(union, func(a, b Entry) int { return a.Serial.Compare(b.Serial) })
	if !slices.Equal(union, full) || !slices.Equal(full, all) {
		t.Error("the union of the shards is not the full list")
	}
}

func TestWriteRefuses(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	two := sample(t)[:2]
	type edit = func(i *Info, list *[]Entry)
	for name, c := range map[string]struct {
		kind bulkhead.Kind
		edit edit
	}{
		"descending":         {bulkhead.KindConflict, func(_ *Info, l *[]Entry) { slices.Reverse(*l) }},
		"twice":              {bulkhead.KindConflict, func(_ *Info, l *[]Entry) { (*l)[1].Serial = (*l)[0].Serial }},
		"no serial":          {bulkhead.KindConflict, func(_ *Info, l *[]Entry) { (*l)[0].Serial = bulkhead.Serial{} }},
		"hold":               {bulkhead.KindBadRevocationReason, func(_ *Info, l *[]Entry) { (*l)[0].Reason = 6 }},
		"reason 7":           {bulkhead.KindBadRevocationReason, func(_ *Info, l *[]Entry) { (*l)[0].Reason = 7 }},
		"removeFromCRL":      {bulkhead.KindBadRevocationReason, func(_ *Info, l *[]Entry) { (*l)[0].Reason = 8 }},
		"reason 11":          {bulkhead.KindBadRevocationReason, func(_ *Info, l *[]Entry) { (*l)[0].Reason = 11 }},
		"reason -1":          {bulkhead.KindBadRevocationReason, func(_ *Info, l *[]Entry) { (*l)[0].Reason = -1 }},
		"no date":            {bulkhead.KindMalformed, func(_ *Info, l *[]Entry) { (*l)[0].RevokedAt = time.Time{} }},
		"year 10000":         {bulkhead.KindMalformed, func(_ *Info, l *[]Entry) { (*l)[0].RevokedAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		"invalidity in 1949": {bulkhead.KindMalformed, func(_ *Info, l *[]Entry) { (*l)[0].InvalidityDate = time.Date(1949, 1, 1, 0, 0, 0, 0, time.UTC) }},
		"no issuer":          {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.Issuer = nil }},
		"no key identifier": {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) {
			i.Issuer = editCert(i.Issuer, func(c *x509.Certificate) { c.SubjectKeyId = nil })
		}},
		"no cRLSign": {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) {
			i.Issuer = editCert(i.Issuer, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
		}},
		"no CA":               {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.Issuer = editCert(i.Issuer, func(c *x509.Certificate) { c.IsCA = false }) }},
		"negative number":     {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.Number = -1 }},
		"no thisUpdate":       {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.ThisUpdate = time.Time{} }},
		"nextUpdate the same": {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.NextUpdate = i.ThisUpdate.Add(time.Millisecond) }},
		"year 10000 next":     {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.NextUpdate = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		"no such scope":       {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.Scope = 3 }},
		"scope without URL":   {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.URL = "" }},
		"URL with a space":    {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.URL = "http://crl.test/a b" }},
		"URL not ASCII":       {bulkhead.KindMalformed, func(i *Info, _ *[]Entry) { i.URL = "http://crl.test/ä" }},
		"P-521":               {bulkhead.KindBadPublicKey, func(i *Info, _ *[]Entry) { i.Issuer = newParty(t, ecKey(t, elliptic.P521())).cert }},
		"other key":           {bulkhead.KindGate, func(i *Info, _ *[]Entry) { i.Issuer = newParty(t, ecKey(t, elliptic.P256())).cert }},
		"nothing wrong":       {"", func(*Info, *[]Entry) {}},
	} {
		info, list := p.info(), slices.Clone(two)
		c.edit(&info, &list)
		var b bytes.Buffer
		_, err := Write(&b, info, list, p.sign)
		if bulkhead.KindOf(err) != c.kind {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && b.Len() > 0 {
			t.Errorf("%s: %d octets written", name, b.Len())
		}
	}
	if _, err := Write(io.Discard, p.info(), two, nil); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Errorf("no signer: %v", err)
	}
}

func editCert(c *x509.Certificate, f func(*x509.Certificate)) *x509.Certificate {
	d := *c
	f(&d)
	return &d
}

// TestPassesThroughErrors: of the file, the signer and the writer; the signer runs once and before anything is written.
func TestPassesThroughErrors(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	boom := errors.New("boom")
	in := encoded(t, numbered(5_000)...)
	if _, err := WriteFile(io.Discard, p.info(), failingReader{boom}, 10, p.sign); !errors.Is(err, boom) {
		t.Errorf("file: %v", err)
	}
	if _, err := Write(io.Discard, p.info(), nil, func(ToSign) ([]byte, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Errorf("signer: %v", err)
	}
	if _, err := Write(failingWriter{boom}, p.info(), numbered(10), p.sign); !errors.Is(err, boom) {
		t.Errorf("writer: %v", err)
	}
	var b bytes.Buffer
	calls := 0
	if _, err := WriteFile(&b, p.info(), bytes.NewReader(in), int64(len(in)), func(s ToSign) ([]byte, error) {
		calls++
		if b.Len() != 0 {
			t.Error("octets were written before the signature")
		}
		return p.sign(s)
	}); err != nil || calls != 1 {
		t.Errorf("%v, %d calls", err, calls)
	}
}

type failingReader struct{ err error }

func (r failingReader) ReadAt([]byte, int64) (int, error) { return 0, r.err }

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// TestSignedIsWritten: the digest and size that the signer saw are those of the TBSCertList in the output.
func TestSignedIsWritten(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P384()))
	for _, n := range []int{0, 1, 3, 200, 5_000} {
		var b bytes.Buffer
		var seen ToSign
		if _, err := Write(&b, p.info(), numbered(n), func(s ToSign) ([]byte, error) { seen = s; return p.sign(s) }); err != nil {
			t.Fatal(err)
		}
		parsed, list := read(t, b.Bytes())
		if seen.TBSDigest != bulkhead.Digest(parsed.TBS) || seen.Size != int64(len(parsed.TBS)) || len(list) != n || parsed.Verify(p.cert) != nil {
			t.Errorf("%d: the signer saw %+v", n, seen)
		}
	}
}

// TestChangingEntries: a file that moves between the passes is noticed, whatever moved.
func TestChangingEntries(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	in := encoded(t, numbered(5_000)...)
	for at := 0; at < len(in); at += 997 {
		moving := bytes.Clone(in)
		_, err := WriteFile(io.Discard, p.info(), bytes.NewReader(moving), int64(len(moving)), func(s ToSign) ([]byte, error) {
			moving[at] ^= 1
			return p.sign(s)
		})
		if bulkhead.KindOf(err) != bulkhead.KindConflict {
			t.Errorf("octet %d: %v", at, err)
		}
	}
}

// TestNumberLimits: 0 and the largest int64 are written and read back.
func TestNumberLimits(t *testing.T) {
	p := newParty(t, ecKey(t, elliptic.P256()))
	for _, n := range []int64{0, 127, 128, 1<<63 - 1} {
		info := p.info()
		info.Number = n
		parsed, _ := read(t, makeCRL(t, p, info))
		if !parsed.Number.IsInt64() || parsed.Number.Int64() != n {
			t.Errorf("%d became %v", n, parsed.Number)
		}
	}
}
