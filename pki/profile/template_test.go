package profile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

var (
	day  = 24 * time.Hour
	now  = time.Date(2026, 11, 21, 12, 0, 0, 987, time.UTC)
	urls = URLs{Base: "http://127.0.0.1:14080"}
)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func serial(n byte) bulkhead.Serial {
	s, err := bulkhead.SerialFromBytes([]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, n})
	if err != nil {
		panic(err)
	}
	return s
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, tmpl.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type house struct {
	root, issuing       *x509.Certificate
	rootKey, issuingKey *ecdsa.PrivateKey
}

func newHouse(t testing.TB) house {
	t.Helper()
	h := house{rootKey: newKey(t), issuingKey: newKey(t)}
	tmpl, err := Root(House{
		Subject: pkix.Name{CommonName: "Test Root", Organization: []string{"Test"}, Country: []string{"CH"}}, PublicKey: h.rootKey.Public(),
		Serial: serial(1), Now: now, Validity: 3650 * day, Backdate: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.root = sign(t, tmpl, nil, h.rootKey)
	tmpl, err = Issuing(House{
		Subject: pkix.Name{CommonName: "Test Issuing", Organization: []string{"Test"}, Country: []string{"CH"}}, PublicKey: h.issuingKey.Public(),
		Serial: serial(2), Now: now, Validity: 1825 * day, Parent: h.root, ParentID: "root", URLs: urls,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.issuing = sign(t, tmpl, h.root, h.rootKey)
	return h
}

func builtinProfile(t testing.TB, name string) *Profile {
	t.Helper()
	for _, p := range Builtin() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no built-in profile %s", name)
	return nil
}

func (h house) input(pub crypto.PublicKey, names ...string) Input {
	in := Input{Issuer: h.issuing, IssuerID: "issuing-p256", PublicKey: pub, Serial: serial(3), Now: now, Shard: 7, URLs: urls}
	for _, n := range names {
		id, err := bulkhead.ParseIdentifier(n)
		if err != nil {
			panic(err)
		}
		in.Names = append(in.Names, id)
	}
	return in
}

func TestTemplateVerifies(t *testing.T) {
	h := newHouse(t)
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(h.root)
	middle.AddCert(h.issuing)
	for name, usage := range map[string]x509.ExtKeyUsage{
		"tls-server": x509.ExtKeyUsageServerAuth, "tls-server-short": x509.ExtKeyUsageServerAuth, "tls-client": x509.ExtKeyUsageClientAuth,
	} {
		tmpl, err := builtinProfile(t, name).Template(h.input(newKey(t).Public(), "www.example.test", "10.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		c := sign(t, tmpl, h.issuing, h.issuingKey)
		_, err = c.Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, DNSName: "www.example.test", CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTemplateRefuses(t *testing.T) {
	h := newHouse(t)
	server, client := builtinProfile(t, "tls-server"), builtinProfile(t, "tls-client")
	good := h.input(newKey(t).Public(), "a.example.test")
	with := func(change func(*Input)) Input {
		in := good
		change(&in)
		return in
	}
	names := func(texts ...string) Input { return h.input(good.PublicKey, texts...) }
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		what string
		p    *Profile
		in   Input
		want bulkhead.Kind
	}{
		{"silent without a fault", server, good, ""},
		{"RSA 1024", server, with(func(in *Input) { in.PublicKey = small.Public() }), bulkhead.KindBadPublicKey},
		{"P-521", server, with(func(in *Input) { in.PublicKey = curve.Public() }), bulkhead.KindBadPublicKey},
		{"no key", server, with(func(in *Input) { in.PublicKey = nil }), bulkhead.KindBadPublicKey},
		{"Ed25519 for a server", server, with(func(in *Input) { in.PublicKey = edwards }), bulkhead.KindBadPublicKey},
		{"Ed25519 for a client", client, with(func(in *Input) { in.PublicKey = edwards }), ""},
		{"no names", server, names(), bulkhead.KindMalformed},
		{"a name twice", server, names("a.test", "a.test"), bulkhead.KindMalformed},
		{"mail", server, names("a@example.test"), bulkhead.KindUnsupportedIdentifier},
		{"wildcard", client, names("*.example.test"), bulkhead.KindRejectedIdentifier},
		{"too many names", client, names("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"), bulkhead.KindRejectedIdentifier},
		{"upper case", server, with(func(in *Input) { in.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "A.test"}} }), bulkhead.KindMalformed},
		{"address in long form", server, with(func(in *Input) { in.Names = []bulkhead.Identifier{{Type: bulkhead.IP, Value: "::ffff:0:1%eth0"}} }), bulkhead.KindMalformed},
		{"no serial", server, with(func(in *Input) { in.Serial = bulkhead.Serial{} }), bulkhead.KindInternal},
		{"no issuer", server, with(func(in *Input) { in.Issuer = nil }), bulkhead.KindInternal},
		{"no issuer's name", server, with(func(in *Input) { in.IssuerID = "" }), bulkhead.KindInternal},
		{"no URL", server, with(func(in *Input) { in.URLs = URLs{} }), bulkhead.KindInternal},
		{"negative shard", server, with(func(in *Input) { in.Shard = -1 }), bulkhead.KindInternal},
		{"issuer ends in 59 minutes", server, with(func(in *Input) { in.Now = h.issuing.NotAfter.Add(-59 * time.Minute) }), bulkhead.KindConflict},
		{"issuer ends in 61 minutes", server, with(func(in *Input) { in.Now = h.issuing.NotAfter.Add(-61 * time.Minute) }), ""},
		{"issuer has ended", server, with(func(in *Input) { in.Now = h.issuing.NotAfter.Add(time.Hour) }), bulkhead.KindConflict},
		{"clock before the issuer", server, with(func(in *Input) { in.Now = h.issuing.NotBefore.Add(-time.Second) }), bulkhead.KindConflict},
	}
	for _, x := range tests {
		_, err := x.p.Template(x.in)
		wantKind(t, x.what, err, x.want)
	}
	err = server.CheckNames([]bulkhead.Identifier{{Type: bulkhead.DNS, Value: "ok.test"}, {Type: bulkhead.DNS, Value: "-bad.test"}, {Type: bulkhead.Email, Value: "a@b.test"}})
	if f := bulkhead.AsFault(err); f == nil || len(f.Subs) != 2 || f.Subs[0].Identifier.Value != "-bad.test" || f.Subs[1].Kind != bulkhead.KindUnsupportedIdentifier {
		t.Errorf("sub-faults of %v", err)
	}
}

func TestValidityIsInclusive(t *testing.T) {
	h := newHouse(t)
	p := builtinProfile(t, "tls-server")
	in := h.input(newKey(t).Public(), "a.test")
	in.Now = now.Add(day)
	tmpl, err := p.Template(in)
	if err != nil {
		t.Fatal(err)
	}
	if got := tmpl.NotAfter.Sub(tmpl.NotBefore) + time.Second; got != 47*day {
		t.Errorf("validity is %v, want 47 days counted inclusively (BR 6.3.2)", got)
	}
	if tmpl.NotBefore != now.Add(day-time.Hour).Truncate(time.Second) {
		t.Errorf("notBefore %v", tmpl.NotBefore)
	}
	in.Now = h.issuing.NotAfter.Add(-10 * day)
	if tmpl, err = p.Template(in); err != nil || !tmpl.NotAfter.Equal(h.issuing.NotAfter) {
		t.Errorf("notAfter %v, %v; want the issuer's end", tmpl.NotAfter, err)
	}
}

func TestCommonNameAndUsage(t *testing.T) {
	h := newHouse(t)
	long := strings.Repeat("a", 60) + ".test" // 65 characters
	p := builtinProfile(t, "tls-server")
	for _, x := range []struct {
		names []string
		want  string
	}{
		{[]string{"10.0.0.1", "a.test", "b.test"}, "a.test"},
		{[]string{long, "b.test"}, "b.test"},
		{[]string{long}, ""},
		{[]string{"10.0.0.1"}, ""},
		{[]string{"*.a.test"}, "*.a.test"},
	} {
		tmpl, err := p.Template(h.input(newKey(t).Public(), x.names...))
		if err != nil || tmpl.Subject.CommonName != x.want {
			t.Errorf("%v: common name %q, %v", x.names, tmpl.Subject.CommonName, err)
		}
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, encipher := range []bool{false, true} {
		p.KeyEncipherment = encipher
		tmpl, err := p.Template(h.input(key.Public(), "a.test"))
		if err != nil || (tmpl.KeyUsage&x509.KeyUsageKeyEncipherment != 0) != encipher {
			t.Errorf("key_encipherment %v with RSA: usage %b, %v", encipher, tmpl.KeyUsage, err)
		}
		tmpl, err = p.Template(h.input(newKey(t).Public(), "a.test"))
		if err != nil || tmpl.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("key_encipherment %v with ECDSA: usage %b, %v", encipher, tmpl.KeyUsage, err)
		}
	}
}

func TestShardOf(t *testing.T) {
	const shards, serials = 8, 8000
	var count [shards]int
	for i := range serials {
		s, err := bulkhead.SerialFromBytes([]byte{1, byte(i >> 8), byte(i)}) // consecutive: the worst case
		if err != nil {
			t.Fatal(err)
		}
		n := ShardOf(s, shards)
		if n != ShardOf(s, shards) {
			t.Fatal("not a function of the serial")
		}
		count[n]++
		if ShardOf(s, 1) != 0 || ShardOf(s, 0) != 0 {
			t.Fatal("one shard is number 0")
		}
	}
	for i, n := range count {
		if n < 800 || n > 1200 {
			t.Errorf("shard %d holds %d of %d serials", i, n, serials)
		}
	}
}

func TestURLs(t *testing.T) {
	u := URLs{Base: "http://status.example.com/"}
	for got, want := range map[string]string{
		u.CRL("issuing-p256", 12): "http://status.example.com/crl/issuing-p256/12.crl",
		u.OCSP():                  "http://status.example.com/ocsp/",
		u.CA("root"):              "http://status.example.com/ca/root.cer",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
