package signer_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/profile"
	"bulkhead/signer"
)

func TestIssueVerifiesWithOpenSSL(t *testing.T) {
	h := newHouse(t)
	h.makeAuthority(rsaCA, bulkhead.IssuingAuthority, keys.RSA2048)
	h.makeAuthority("issuing-p384", bulkhead.IssuingAuthority, keys.P384)
	for _, id := range []bulkhead.AuthorityID{ecdsaCA, rsaCA, "issuing-p384"} {
		for _, p := range []string{"tls-server", "tls-server-short", "tls-client"} {
			req := h.request("www.example.test", "10.0.0.7")
			req.Authority, req.Profile = id, p
			got, err := h.signer.Issue(t.Context(), req)
			if err != nil {
				t.Fatalf("%s %s: %v", id, p, err)
			}
			openssl(t, got)
			cert := parse(t, got.DER)
			row, der, err := h.store.Certificate(t.Context(), got.Certificate.CertificateRef)
			ok(t, err)
			if !bytes.Equal(der, got.DER) || row.State != bulkhead.Issued || row.OutcomeSeq != got.Certificate.OutcomeSeq || row.OutcomeSeq <= row.IntentSeq {
				t.Errorf("the record holds %+v", row)
			}
			if want := profile.ShardOf(row.Serial, 4); row.Shard != want || cert.CRLDistributionPoints[0] != urls.CRL(id, want) {
				t.Errorf("shard %d, CDP %v, want shard %d", row.Shard, cert.CRLDistributionPoints, want)
			}
			for _, e := range h.leaves() {
				if e.Kind == bulkhead.EvCertificateIntent && e.Serial == row.Serial && (e.Digest != bulkhead.Digest(cert.RawTBSCertificate) || e.Signer != h.signerHash(id)) {
					t.Errorf("the intent is not for the bytes that were signed")
				}
			}
		}
	}
	if n := h.audit()[h.signerHash(rsaCA)].Signatures(); n != 3 {
		t.Errorf("evidence counts %d signatures of the RSA key, want 3", n)
	}
}

func openssl(t *testing.T, c bulkhead.IssuedCertificate) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, ders ...[]byte) string {
		var b bytes.Buffer
		for _, der := range ders {
			ok(t, pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}))
		}
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, b.Bytes(), 0o600))
		return path
	}
	n := len(c.Chain)
	root, chain, leaf := write("root", c.Chain[n-1]), write("chain", c.Chain[:n-1]...), write("leaf", c.DER)
	out, err := exec.Command("openssl", "verify", "-x509_strict", "-CAfile", root, "-untrusted", chain, leaf).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl verify: %v: %s", err, out)
	}
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	ok(t, err)
	return c
}

// TestCallerCannotChoose plants extensions, dates' and serial's only carriers, in the CSR.
func TestCallerCannotChoose(t *testing.T) {
	h := newHouse(t)
	req := h.request("a.example.test")
	extra := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}}
	clientAuth, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}})
	ok(t, err)
	req.CSR = csr(t, newKey(t), req.Names, func(r *x509.CertificateRequest) {
		r.Subject = pkix.Name{Organization: []string{"Somebody Else"}}
		r.ExtraExtensions = []pkix.Extension{extra, {Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: clientAuth}}
	})
	got, err := h.signer.Issue(t.Context(), req)
	ok(t, err)
	cert := parse(t, got.DER)
	if len(cert.Subject.Organization) != 0 || len(cert.ExtKeyUsage) != 1 || cert.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Errorf("the CSR chose subject %v or usages %v", cert.Subject, cert.ExtKeyUsage)
	}
	for _, e := range cert.Extensions {
		if e.Id.Equal(extra.Id) {
			t.Error("the CSR chose an extension")
		}
	}
	req = h.request("a.example.test")
	isCA, err := asn1.Marshal(struct{ CA bool }{true})
	ok(t, err)
	req.CSR = csr(t, newKey(t), req.Names, func(r *x509.CertificateRequest) {
		r.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Value: isCA}}
	})
	_, err = h.signer.Issue(t.Context(), req)
	wantKind(t, err, bulkhead.KindBadCSR, "authority")
}

// TestPrepareRefuses changes one thing of a good request at a time; each must be refused with its kind, reserve
// nothing and leave no intent.
func TestPrepareRefuses(t *testing.T) {
	h := newHouse(t)
	h.account("account-b")
	retired := h.makeAuthority("retired", bulkhead.IssuingAuthority, keys.P256)
	retired.State = bulkhead.AuthorityRetired
	ok(t, h.store.PutAuthority(t.Context(), retired))
	offline := h.makeAuthority("offline", bulkhead.IssuingAuthority, keys.P256)
	offline.KeyURI = ""
	ok(t, h.store.PutAuthority(t.Context(), offline))
	blocked := newKey(t)
	ok(t, h.store.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: keyHash(t, blocked.Public()), BlockedAt: h.now(), Reason: "stolen"}))
	issuing, err := h.ring.Open(t.Context(), mustAuthority(t, h, ecdsaCA).KeyURI)
	ok(t, err)
	type req = bulkhead.CertificateRequest
	withKey := func(k crypto.Signer) func(*req) { return func(r *req) { r.CSR = csr(t, k, r.Names) } }
	evidence := func(p proof) func(*req) { return func(r *req) { r.OrderID = h.order(r.Names, p) } }
	for name, c := range map[string]struct {
		change func(*req)
		kind   bulkhead.Kind
		word   string
	}{
		"unknown profile":       {func(r *req) { r.Profile = "vip" }, bulkhead.KindInvalidProfile, "vip"},
		"unknown authority":     {func(r *req) { r.Authority = "nobody" }, bulkhead.KindNotFound, ""},
		"root":                  {func(r *req) { r.Authority = rootCA }, bulkhead.KindForbidden, "root"},
		"infrastructure":        {func(r *req) { r.Authority = infraCA }, bulkhead.KindForbidden, "infrastructure"},
		"retired":               {func(r *req) { r.Authority = "retired" }, bulkhead.KindConflict, "retired"},
		"offline":               {func(r *req) { r.Authority = "offline" }, bulkhead.KindConflict, "offline"},
		"no names":              {func(r *req) { r.Names = nil }, bulkhead.KindMalformed, "no names"},
		"mail for a server":     {func(r *req) { r.Names = append(r.Names, bulkhead.Identifier{Type: bulkhead.Email, Value: "a@b.test"}) }, bulkhead.KindUnsupportedIdentifier, ""},
		"no CSR":                {func(r *req) { r.CSR = nil }, bulkhead.KindBadCSR, "PKCS"},
		"forged CSR":            {func(r *req) { r.CSR[len(r.CSR)-1] ^= 1 }, bulkhead.KindBadCSR, "signature"},
		"name beyond the order": {func(r *req) { r.CSR = csr(t, newKey(t), ids(t, "a.example.test", "evil.test")) }, bulkhead.KindBadCSR, "evil.test"},
		"CN beyond the order": {func(r *req) {
			r.CSR = csr(t, newKey(t), r.Names, func(c *x509.CertificateRequest) { c.Subject.CommonName = "evil.test" })
		}, bulkhead.KindBadCSR, "evil.test"},
		"blocked key":         {withKey(blocked), bulkhead.KindBadPublicKey, "blocked"},
		"P-224 key":           {withKey(ec(t, elliptic.P224())), bulkhead.KindBadPublicKey, ""},
		"P-521 key":           {withKey(ec(t, elliptic.P521())), bulkhead.KindBadPublicKey, ""},
		"Ed25519 key":         {withKey(ed(t)), bulkhead.KindBadPublicKey, ""},
		"RSA of close primes": {withKey(newCloseRSA(t)), bulkhead.KindBadPublicKey, "Fermat"},
		"the issuer's key":    {withKey(issuing), bulkhead.KindBadPublicKey, "issuer"},
		"no account":          {func(r *req) { r.AccountID = "" }, bulkhead.KindMalformed, "account"},
		"no order":            {func(r *req) { r.OrderID = "nothing" }, bulkhead.KindNotFound, ""},
		"foreign order":       {func(r *req) { r.AccountID = "account-b" }, bulkhead.KindUnauthorized, "no validation"},
		"no validation":       {evidence(func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.Method = "" }), bulkhead.KindUnauthorized, "no validation"},
		"foreign validation":  {evidence(func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.AccountID = "account-b" }), bulkhead.KindUnauthorized, "no validation"},
		"other name":          {evidence(func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.Identifier.Value = "b.test" }), bulkhead.KindUnauthorized, "no validation"},
		"expired validation":  {evidence(func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.ReuseUntil = h.now() }), bulkhead.KindUnauthorized, "too old"},
		"future validation":   {evidence(func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.At = h.now().Add(time.Hour) }), bulkhead.KindUnauthorized, "too old"},
		"unknown method":      {evidence(func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.Method = "email-00" }), bulkhead.KindUnauthorized, "method"},
		"CAA not checked":     {evidence(func(_ *bulkhead.Validation, c *bulkhead.CAACheck) { c.Result = "" }), bulkhead.KindCAA, "not checked"},
		"CAA denied":          {evidence(func(_ *bulkhead.Validation, c *bulkhead.CAACheck) { c.Result = bulkhead.CAADenied }), bulkhead.KindCAA, "permit"},
		"CAA expired":         {evidence(func(_ *bulkhead.Validation, c *bulkhead.CAACheck) { c.ValidUntil = h.now() }), bulkhead.KindCAA, "too old"},
		"CAA of another name": {evidence(func(_ *bulkhead.Validation, c *bulkhead.CAACheck) { c.Identifier.Value = "b.test" }), bulkhead.KindCAA, "not checked"},
		"wildcard by http-01": {func(r *req) {
			r.Names = ids(t, "*.example.test")
			r.CSR = csr(t, newKey(t), r.Names)
			r.OrderID = h.order(r.Names, func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.Method = bulkhead.HTTP01 })
		}, bulkhead.KindUnauthorized, "method"},
		"wildcard by its base": {func(r *req) {
			r.Names = ids(t, "*.example.test")
			r.CSR = csr(t, newKey(t), r.Names)
			r.OrderID = h.order(r.Names, func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.Wildcard = false })
		}, bulkhead.KindUnauthorized, "wildcard"},
		"address by dns-01": {func(r *req) {
			r.Names = ids(t, "10.0.0.1")
			r.CSR = csr(t, newKey(t), r.Names)
			r.OrderID = h.order(r.Names, func(v *bulkhead.Validation, _ *bulkhead.CAACheck) { v.Method = bulkhead.DNS01 })
		}, bulkhead.KindUnauthorized, "method"},
	} {
		t.Run(name, func(t *testing.T) {
			r := h.request("a.example.test")
			c.change(&r)
			_, err := h.signer.Prepare(t.Context(), r)
			wantKind(t, err, c.kind, c.word)
		})
	}
	if rows := h.rows(); len(rows) != 0 {
		t.Errorf("refused requests left rows %v", rows)
	}
	if n := h.count(bulkhead.EvCertificateIntent); n != 0 {
		t.Errorf("refused requests left %d intents", n)
	}
	// The same request unchanged goes through, wildcards too.
	h.issue("a.example.test")
	h.issue("*.example.test", "example.test")
	h.audit()
}

func mustAuthority(t *testing.T, h *house, id bulkhead.AuthorityID) bulkhead.Authority {
	t.Helper()
	a, err := h.store.Authority(t.Context(), id)
	ok(t, err)
	return a
}

func ec(t *testing.T, c elliptic.Curve) crypto.Signer {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	ok(t, err)
	return k
}

func ed(t *testing.T) crypto.Signer {
	_, k, err := ed25519.GenerateKey(rand.Reader)
	ok(t, err)
	return k
}

// closeRSA is a key that Fermat's method factors at once. The standard library will not sign with it, so it signs by
// hand (RFC 8017 section 9.2).
type closeRSA struct{ n, d *big.Int }

func newCloseRSA(t *testing.T) crypto.Signer {
	p, err := rand.Prime(rand.Reader, 1024)
	ok(t, err)
	one, two := big.NewInt(1), big.NewInt(2)
	q := new(big.Int).Add(p, two)
	for !q.ProbablyPrime(8) {
		q.Add(q, two)
	}
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	return closeRSA{new(big.Int).Mul(p, q), new(big.Int).ModInverse(big.NewInt(65537), phi)}
}

func (k closeRSA) Public() crypto.PublicKey { return &rsa.PublicKey{N: k.n, E: 65537} }

func (k closeRSA) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	const prefix = "\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"
	m := append([]byte{0, 1}, bytes.Repeat([]byte{0xff}, 256-3-len(prefix)-len(digest))...)
	m = append(append(append(m, 0), prefix...), digest...)
	return new(big.Int).Exp(new(big.Int).SetBytes(m), k.d, k.n).FillBytes(make([]byte, 256)), nil
}

// TestLintPlants shows the gate: a profile that promises more than the rules in force allow is refused by name of the
// rule and reserves nothing; the same profile within the limit passes.
func TestLintPlants(t *testing.T) {
	builtin := profile.Builtin()
	for _, c := range []struct {
		validity time.Duration
		refused  bool
	}{{365 * dayTime, true}, {90 * dayTime, false}} {
		h := newHouse(t, func(cfg *signer.Config) {
			for _, p := range builtin {
				if p.Name == "tls-server" {
					long := *p
					long.Name, long.Validity = "too-long", c.validity
					cfg.Profiles = append(cfg.Profiles, &long)
				}
			}
		})
		req := h.request("a.example.test")
		req.Profile = "too-long"
		_, err := h.signer.Issue(t.Context(), req)
		if !c.refused {
			ok(t, err)
			continue
		}
		wantKind(t, err, bulkhead.KindGate, "bulkhead_validity")
		if rows := h.rows(); len(rows) != 0 || h.count(bulkhead.EvCertificateIntent) != 0 {
			t.Errorf("lint refused, and the record has %v", rows)
		}
	}
}

func TestInfrastructure(t *testing.T) {
	h := newHouse(t)
	names := ids(t, "localhost", "127.0.0.1")
	key := newKey(t)
	got, err := h.signer.IssueInfrastructure(t.Context(), names, csr(t, key, names))
	ok(t, err)
	openssl(t, got)
	if got.Certificate.Kind != bulkhead.InfraCertificate || got.Certificate.Issuer != infraCA {
		t.Errorf("got %+v", got.Certificate)
	}
	_, err = h.signer.IssueInfrastructure(t.Context(), names, csr(t, key, ids(t, "evil.test")))
	wantKind(t, err, bulkhead.KindBadCSR, "evil.test")
	ok(t, h.store.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: keyHash(t, key.Public()), BlockedAt: h.now(), Reason: "stolen"}))
	_, err = h.signer.IssueInfrastructure(t.Context(), names, csr(t, key, names))
	wantKind(t, err, bulkhead.KindBadPublicKey, "blocked")
	h.audit()
}

// TestNeverOutlivesTheIssuer: cut to the issuer's end, and refused when hardly anything would be left.
func TestNeverOutlivesTheIssuer(t *testing.T) {
	h := newHouse(t)
	end := h.certs[ecdsaCA].NotAfter
	h.move(end.Add(-10 * dayTime).Sub(h.now()))
	if got := h.issue("a.example.test"); !got.Certificate.NotAfter.Equal(end) {
		t.Errorf("notAfter %s, the issuer ends %s", got.Certificate.NotAfter, end)
	}
	h.move(10*dayTime - 30*time.Minute)
	_, err := h.signer.Issue(t.Context(), h.request("a.example.test"))
	wantKind(t, err, bulkhead.KindConflict, "less than")
	h.audit()
}

// stuck is a random source whose first serials are all the same.
type stuck struct{ left int }

func (s *stuck) Read(p []byte) (int, error) {
	if len(p) == 16 && s.left > 0 {
		s.left--
		for i := range p {
			p[i] = 0x55
		}
		return len(p), nil
	}
	return rand.Read(p)
}

func TestTakenSerialIsDrawnAgain(t *testing.T) {
	source := &stuck{left: 2}
	h := newHouse(t, func(c *signer.Config) { c.Rand = source })
	one, two := h.issue("a.example.test"), h.issue("b.example.test")
	if one.Certificate.Serial == two.Certificate.Serial || len(two.Certificate.Serial.Bytes()) != 16 {
		t.Errorf("serials %s and %s", one.Certificate.Serial, two.Certificate.Serial)
	}
	source.left = 100
	_, err := h.signer.Issue(t.Context(), h.request("c.example.test"))
	wantKind(t, err, bulkhead.KindUnavailable, "serial")
	h.audit()
}
