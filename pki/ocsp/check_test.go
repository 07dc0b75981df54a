package ocsp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"bulkhead"
)

// TestForgedResponses is the corpus of the 2020 intermediates: four signers speak of sibling A. Beside our verdict
// stands what OpenSSL and Go say, so that a change of theirs is noticed.
func TestForgedResponses(t *testing.T) {
	h := newHouse(t)
	dangerous := caTemplate("Sibling B")
	dangerous.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageOCSPSigning}
	dangerousNoCheck := caTemplate("Sibling B with nocheck")
	dangerousNoCheck.ExtKeyUsage, dangerousNoCheck.ExtraExtensions = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, []pkix.Extension{noCheck()}
	root := pemFile(t, h.root.cert)
	for _, c := range []struct {
		name          string
		signer        *party
		ours, openssl bool
	}{
		{"A proper delegate", h.delegate, true, true},
		{"B ICA with OCSPSigning", issue(t, h.root, newKey(t), dangerous), false, true},
		{"B' ICA with OCSPSigning and nocheck", issue(t, h.root, newKey(t), dangerousNoCheck), false, true},
		{"C ICA without", issue(t, h.root, newKey(t), caTemplate("Sibling C")), false, false},
		{"D TLS leaf", issue(t, h.root, newKey(t), leafTemplate()), false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			der := sign(t, h.root.issuer(t), c.signer, goodSingle(h.child.serial(t)))
			r, err := ParseResponse(der)
			if err != nil {
				t.Fatal(err)
			}
			_, err = CheckResponse(r, h.root.cert, h.child.serial(t), now)
			if accepted := err == nil; accepted != c.ours {
				t.Errorf("CheckResponse accepts: %v (%v), want %v", accepted, err, c.ours)
			}
			if err != nil && bulkhead.KindOf(err) != bulkhead.KindGate {
				t.Errorf("kind %s", bulkhead.KindOf(err))
			}
			out, _ := tool(t, "openssl", "ocsp", "-respin", file(t, "r.der", der), "-CAfile", root, "-issuer", root, "-serial", "0x"+h.child.serial(t).String())
			if accepted := strings.Contains(out, "Response verify OK"); accepted != c.openssl {
				t.Errorf("openssl accepts: %v, want %v\n%s", accepted, c.openssl, out)
			}
			if _, err := xocsp.ParseResponseForCert(der, h.child.cert, h.root.cert); err != nil {
				t.Errorf("x/crypto/ocsp now refuses (%v): it used to believe all of them", err)
			}
		})
	}
}

// TestCheckDelegate flips one field at a time of the profile in BR 7.1.2.8.
func TestCheckDelegate(t *testing.T) {
	h := newHouse(t)
	if err := CheckDelegate(h.delegate.cert, h.root.cert, now); err != nil {
		t.Fatalf("the proper delegate is refused: %v", err)
	}
	ext := func(id asn1.ObjectIdentifier, critical bool, value ...byte) pkix.Extension {
		return pkix.Extension{Id: id, Critical: critical, Value: value}
	}
	for name, c := range map[string]struct {
		want string
		flip func(c *x509.Certificate)
	}{
		"CA": {"CA certificate", func(c *x509.Certificate) {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, c.KeyUsage|x509.KeyUsageCertSign
		}},
		"CA without keyCertSign": {"CA certificate", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }},
		"keyCertSign":            {"CA certificate", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }},
		"keyEncipherment":        {"digitalSignature alone", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment }},
		"no keyUsage":            {"digitalSignature alone", func(c *x509.Certificate) { c.KeyUsage = 0 }},
		"keyUsage not critical": {"must be critical", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, ext(idKeyUsage, false, 3, 2, 7, 0x80))
		}},
		"no purpose":             {"OCSPSigning alone", func(c *x509.Certificate) { c.ExtKeyUsage = nil }},
		"other purpose":          {"OCSPSigning alone", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }},
		"second purpose":         {"OCSPSigning alone", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) }},
		"second unknown purpose": {"OCSPSigning alone", func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 2, 3}} }},
		"any purpose":            {"OCSPSigning alone", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }},
		"no nocheck":             {"nocheck", func(c *x509.Certificate) { c.ExtraExtensions = nil }},
		"critical nocheck":       {"nocheck", func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true }},
		"empty nocheck":          {"nocheck", func(c *x509.Certificate) { c.ExtraExtensions[0].Value = nil }},
		"SAN":                    {"2.5.29.17", func(c *x509.Certificate) { c.DNSNames = []string{"ocsp.test"} }},
		"CDP":                    {"2.5.29.31", func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.test/1.crl"} }},
		"policies": {"2.5.29.32", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, ext(idPolicies, false, 0x30, 6, 0x30, 4, 6, 2, 0x2a, 3))
		}},
		"name constraints": {"2.5.29.30", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{"test"} }},
		"unknown critical": {"not known", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, ext(asn1.ObjectIdentifier{1, 2, 3}, true, 5, 0))
		}},
		"basicConstraints lax": {"must be critical and without", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, ext(idBasicConstraints, false, 0x30, 0))
		}},
		"not yet valid": {"is valid from", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(time.Hour), now.Add(2*time.Hour) }},
		"expired":       {"is valid from", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Second) }},
		"outlives the issuer": {"outlives", func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = now.Add(-time.Hour), h.root.cert.NotAfter.Add(time.Second)
		}},
	} {
		template := delegateTemplate()
		c.flip(template)
		err := CheckDelegate(issue(t, h.root, newKey(t), template).cert, h.root.cert, now)
		if bulkhead.KindOf(err) != bulkhead.KindGate || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	lax := delegateTemplate()
	lax.BasicConstraintsValid = true
	if err := CheckDelegate(issue(t, h.root, newKey(t), lax).cert, h.root.cert, now); err != nil {
		t.Errorf("basicConstraints with cA=false is allowed: %v", err)
	}
}

// TestDelegateOfAnother: same name with another key, same key with another name, a stranger, a broken signature, a small key.
func TestDelegateOfAnother(t *testing.T) {
	h := newHouse(t)
	sameName := issue(t, nil, newKey(t), caTemplate("Root"))
	sameNameAndID := caTemplate("Root")
	sameNameAndID.SubjectKeyId = h.root.cert.SubjectKeyId
	sameKey := issue(t, nil, h.root.key, caTemplate("Root renamed"))
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	broken := *h.delegate.cert
	broken.Signature = append([]byte(nil), broken.Signature...)
	broken.Signature[len(broken.Signature)-1] ^= 1
	for name, d := range map[string]*x509.Certificate{
		"same name, other key":                issue(t, sameName, newKey(t), delegateTemplate()).cert,
		"same name and identifier, other key": issue(t, issue(t, nil, newKey(t), sameNameAndID), newKey(t), delegateTemplate()).cert,
		"same key, other name":                issue(t, sameKey, newKey(t), delegateTemplate()).cert,
		"of a child":                          issue(t, h.child, newKey(t), delegateTemplate()).cert,
		"broken signature":                    &broken,
		"P-224":                               issue(t, h.root, small, delegateTemplate()).cert,
		"none":                                nil,
	} {
		if err := CheckDelegate(d, h.root.cert, now); bulkhead.KindOf(err) != bulkhead.KindGate {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCheckResponse plants one fault at a time in a response that is otherwise accepted.
func TestCheckResponse(t *testing.T) {
	h := newHouse(t)
	serial, issuer := h.child.serial(t), h.root.issuer(t)
	other := issue(t, nil, newKey(t), caTemplate("Root"))
	renamed := issue(t, nil, h.root.key, caTemplate("Root renamed"))
	next, _ := bulkhead.ParseSerial("1234")
	long := goodSingle(serial)
	long.NextUpdate = h.delegate.cert.NotAfter.Add(time.Second)
	for _, c := range []struct {
		name string
		der  []byte
		at   time.Time
		ok   bool
	}{
		{"good", sign(t, issuer, h.delegate, goodSingle(serial)), now, true},
		{"at thisUpdate", sign(t, issuer, h.delegate, goodSingle(serial)), goodSingle(serial).ThisUpdate, true},
		{"before thisUpdate", sign(t, issuer, h.delegate, goodSingle(serial)), goodSingle(serial).ThisUpdate.Add(-time.Second), false},
		{"last second", sign(t, issuer, h.delegate, goodSingle(serial)), goodSingle(serial).NextUpdate.Add(-time.Second), true},
		{"at nextUpdate", sign(t, issuer, h.delegate, goodSingle(serial)), goodSingle(serial).NextUpdate, false},
		{"other serial", sign(t, issuer, h.delegate, goodSingle(next)), now, false},
		{"same name, other key", sign(t, other.issuer(t), h.delegate, goodSingle(serial)), now, false},
		{"same key, other name", sign(t, renamed.issuer(t), h.delegate, goodSingle(serial)), now, false},
		{"one hash is enough", sign(t, issuer, h.delegate, goodSingle(serial), SHA384), now, true},
		{"outlives the delegate", sign(t, issuer, h.delegate, long), now, false},
		{"signed by the issuer itself", sign(t, issuer, h.root, goodSingle(serial)), now, true},
		{"error response", ErrorResponse(TryLater), now, false},
		{"reason extension", resign(t, h, single(t, h, "\xa1\x13\x30\x11\x30\x0f\x06\x03"+oidReason+"\x01\x01\x00\x04\x05\x0a\x01\x04\x05\x00"), nil), now, false},
		{"unknown critical single extension", resign(t, h, single(t, h, "\xa1\x10\x30\x0e\x30\x0c\x06\x02\x2a\x03\x01\x01\xff\x04\x03\x0a\x01\x01"), nil), now, false},
		{"unknown single extension", resign(t, h, single(t, h, "\xa1\x0d\x30\x0b\x30\x09\x06\x02\x2a\x03\x04\x03\x0a\x01\x01"), nil), now, true},
		{"unknown critical extension", resign(t, h, single(t, h, ""), []byte("\xa1\x10\x30\x0e\x30\x0c\x06\x02\x2a\x03\x01\x01\xff\x04\x03\x0a\x01\x01")), now, false},
		{"contradiction", contradiction(t, h), now, false},
	} {
		r, err := ParseResponse(c.der)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got, err := CheckResponse(r, h.root.cert, serial, c.at)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want acceptance %v", c.name, err, c.ok)
		}
		if err != nil && bulkhead.KindOf(err) != bulkhead.KindGate {
			t.Errorf("%s: kind %s", c.name, bulkhead.KindOf(err))
		}
		if c.ok && (got.State != Good || got.Serial != serial) {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// TestCheckSignature: every flipped octet of what is signed, or of the signature, is noticed.
func TestCheckSignature(t *testing.T) {
	h := newHouse(t)
	serial := h.child.serial(t)
	der := sign(t, h.root.issuer(t), h.delegate, goodSingle(serial))
	end := bytes.Index(der, h.delegate.cert.Raw)
	for i := 0; i < end; i++ {
		bad := append([]byte(nil), der...)
		bad[i] ^= 1
		r, err := ParseResponse(bad)
		if err != nil {
			continue
		}
		if _, err := CheckResponse(r, h.root.cert, serial, now); err == nil {
			t.Errorf("octet %d flipped and accepted", i)
		}
	}
	r, err := ParseResponse(der)
	if err != nil {
		t.Fatal(err)
	}
	r.SignatureAlgorithm = x509.ECDSAWithSHA1
	if _, err := CheckResponse(r, h.root.cert, serial, now); err == nil {
		t.Error("SHA-1 accepted")
	}
	r.SignatureAlgorithm, r.Certificates = x509.ECDSAWithSHA256, nil
	if _, err := CheckResponse(r, h.root.cert, serial, now); err == nil {
		t.Error("accepted without the delegate's certificate")
	}
}

// element wraps contents in a DER header.
func element(tag byte, contents ...[]byte) []byte {
	all := bytes.Join(contents, nil)
	return append(appendHeader(nil, tag, len(all)), all...)
}

// single is a good SHA-256 statement about the child with raw extensions behind it.
func single(t *testing.T, h house, extensions string) []byte {
	t.Helper()
	s, issuer := goodSingle(h.child.serial(t)), h.root.issuer(t)
	e := encoded{hash: SHA256, name: issuer.name.of(SHA256), key: issuer.key.of(SHA256), serial: s.Serial.Fixed(), single: &s}
	e.measure()
	var one asn1.RawValue
	if _, err := asn1.Unmarshal(e.append(nil), &one); err != nil {
		t.Fatal(err)
	}
	return element(0x30, one.Bytes, []byte(extensions))
}

// resign makes the root's delegate sign hand-made statements, with raw response extensions behind.
func resign(t *testing.T, h house, statements, extensions []byte) []byte {
	t.Helper()
	keyHash, err := KeyHash(h.delegate.cert.RawSubjectPublicKeyInfo)
	if err != nil {
		t.Fatal(err)
	}
	tbs := element(0x30, element(0xa2, element(0x04, keyHash[:])), element(0x18, []byte(now.Format("20060102150405Z"))), element(0x30, statements), extensions)
	return Assemble(tbs, signTBS(t, h.delegate.key, tbs), h.delegate.cert.Raw)
}

func contradiction(t *testing.T, h house) []byte {
	t.Helper()
	good := single(t, h, "")
	bad := bytes.Replace(good, []byte{0x80, 0x00, 0x18}, []byte{0x82, 0x00, 0x18}, 1)
	if bytes.Equal(good, bad) {
		t.Fatal("no status found")
	}
	return resign(t, h, append(good, bad...), nil)
}

// TestByNameResponder: a response by Go's own builder names its responder by name, and is signed by the issuer.
func TestByNameResponder(t *testing.T) {
	h := newHouse(t)
	der, err := xocsp.CreateResponse(h.root.cert, h.root.cert, xocsp.Response{
		Status: xocsp.Good, SerialNumber: h.child.cert.SerialNumber, ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour), IssuerHash: crypto.SHA256,
	}, h.root.key)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseResponse(der)
	if err != nil || r.ResponderName == nil {
		t.Fatalf("%v %+v", err, r)
	}
	if _, err := CheckResponse(r, h.root.cert, h.child.serial(t), now); err != nil {
		t.Error(err)
	}
}
