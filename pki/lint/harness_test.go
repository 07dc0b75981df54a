package lint

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
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/profile"
)

const day = 24 * time.Hour

var (
	now         = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	privateURLs = profile.URLs{Base: "http://127.0.0.1:14080"}
	publicURLs  = profile.URLs{Base: "http://status.example.com"}
)

// hierarchy is a root and an issuing authority made with the real templates.
type hierarchy struct {
	rootKey, issuingKey crypto.Signer
	root, issuing       *x509.Certificate
	urls                profile.URLs
}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newEC() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

var rsaKeys = sync.OnceValue(func() (keys [2]crypto.Signer) {
	for i := range keys {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = k
	}
	return keys
})

func newSerial() bulkhead.Serial {
	p := make([]byte, 16)
	_, _ = rand.Read(p)
	p[0] = p[0]&0x3f | 0x40
	s, err := bulkhead.SerialFromBytes(p)
	if err != nil {
		panic(err)
	}
	return s
}

func newHierarchy(t testing.TB, urls profile.URLs, rootKey, issuingKey crypto.Signer) hierarchy {
	t.Helper()
	h := hierarchy{rootKey: rootKey, issuingKey: issuingKey, urls: urls}
	h.root = parse(t, sign(t, h.rootTemplate(t), nil, rootKey))
	h.issuing = parse(t, sign(t, h.issuingTemplate(t, issuingKey.Public()), h.root, rootKey))
	return h
}

func ecHierarchy(t testing.TB) hierarchy { return newHierarchy(t, privateURLs, newEC(), newEC()) }

func (h hierarchy) rootTemplate(t testing.TB) *x509.Certificate {
	t.Helper()
	c, err := profile.Root(profile.House{
		Subject:   pkix.Name{CommonName: "Example Root", Organization: []string{"Example"}, Country: []string{"CH"}},
		PublicKey: h.rootKey.Public(), Serial: newSerial(), Now: now, Validity: 3650 * day, Backdate: time.Hour,
	})
	return must(t, c, err)
}

func (h hierarchy) issuingTemplate(t testing.TB, pub crypto.PublicKey) *x509.Certificate {
	t.Helper()
	c, err := profile.Issuing(profile.House{
		Subject:   pkix.Name{CommonName: "Example Issuing", Organization: []string{"Example"}, Country: []string{"CH"}},
		PublicKey: pub, Serial: newSerial(), Now: now, Validity: 1800 * day, Parent: h.root, ParentID: "root", URLs: h.urls,
	})
	return must(t, c, err)
}

// usageTemplate is an issuing authority of another usage under the root.
func (h hierarchy) usageTemplate(t testing.TB, pub crypto.PublicKey, usage profile.Usage) *x509.Certificate {
	t.Helper()
	c, err := profile.Issuing(profile.House{
		Subject:   pkix.Name{CommonName: "Example Issuing " + string(usage), Organization: []string{"Example"}, Country: []string{"CH"}},
		PublicKey: pub, Serial: newSerial(), Now: now, Validity: 1800 * day, Parent: h.root, ParentID: "root", URLs: h.urls, Usage: usage,
	})
	return must(t, c, err)
}

func (h hierarchy) crossTemplate(t testing.TB) *x509.Certificate {
	t.Helper()
	c, err := profile.Cross(profile.House{
		RawSubject: h.issuing.RawSubject, PublicKey: h.issuingKey.Public(), Serial: newSerial(), Now: now,
		Validity: 1000 * day, Parent: h.root, ParentID: "root", URLs: h.urls,
	})
	return must(t, c, err)
}

func (h hierarchy) delegateTemplate(t testing.TB) *x509.Certificate {
	t.Helper()
	c, err := profile.OCSPDelegate(profile.House{
		Subject: pkix.Name{CommonName: "Example OCSP"}, PublicKey: newEC().Public(), Serial: newSerial(), Now: now,
		Validity: 30 * day, Parent: h.issuing, ParentID: "issuing", URLs: h.urls,
	})
	return must(t, c, err)
}

func identifiers(names ...string) []bulkhead.Identifier {
	ids := []bulkhead.Identifier{}
	for _, n := range names {
		id, err := bulkhead.ParseIdentifier(n)
		if err != nil {
			panic(err)
		}
		ids = append(ids, id)
	}
	return ids
}

func (h hierarchy) leafTemplate(t testing.TB, profileName string, pub crypto.PublicKey, names ...string) *x509.Certificate {
	t.Helper()
	in := profile.Input{Issuer: h.issuing, IssuerID: "issuing", Names: identifiers(names...), PublicKey: pub, Serial: newSerial(), Now: now, Shard: 3, URLs: h.urls}
	if profileName == "infrastructure" {
		c, err := profile.Infrastructure(in, 30*day, time.Hour)
		return must(t, c, err)
	}
	for _, p := range profile.Builtin() {
		if p.Name == profileName {
			if p.Kind == profile.CodeSigning {
				p.Subject = profile.Subject{Organization: "Example", Locality: "Geneva", Country: "CH"}
			}
			c, err := p.Template(in)
			return must(t, c, err)
		}
	}
	t.Fatalf("no profile %s", profileName)
	return nil
}

func sign(t testing.TB, tmpl, parent *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	if parent == nil {
		parent = tmpl
	}
	p := *parent
	p.PublicKey = nil // a twin's key is not the parent's
	der, err := x509.CreateCertificate(rand.Reader, tmpl, &p, tmpl.PublicKey, key)
	return must(t, der, err)
}

// throwaway is a key of the same kind, as the signer uses for twins.
func throwaway(like crypto.Signer) crypto.Signer {
	if _, ok := like.(*rsa.PrivateKey); ok {
		if keys := rsaKeys(); keys[0] == like {
			return keys[1]
		}
		return rsaKeys()[0]
	}
	return newEC()
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	return must(t, c, err)
}

func newLinter(t testing.TB, private bool) *Linter {
	t.Helper()
	l, err := New(Config{PrivateNames: private})
	return must(t, l, err)
}

// names of the rules found, with at least the severity of warnings.
func has(found []Finding, rule string) bool {
	for _, f := range found {
		if f.Rule == rule {
			return true
		}
	}
	return false
}

func show(found []Finding) string {
	var b bytes.Buffer
	for _, f := range found {
		b.WriteString("\n  " + f.String())
	}
	return strings.TrimSpace(b.String())
}

func bigBits(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n) }

func ed25519Key(t testing.TB) crypto.Signer {
	t.Helper()
	_, k, err := ed25519.GenerateKey(rand.Reader)
	return must(t, k, err)
}

// sha1Signed renames the signature algorithm of an RSA certificate to sha1WithRSAEncryption, inside and outside; no
// rule looks at the signature.
func sha1Signed(t testing.TB, der []byte) []byte {
	t.Helper()
	sha256WithRSA := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}
	sha1WithRSA := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05}
	if bytes.Count(der, sha256WithRSA) != 2 {
		t.Fatal("not signed with RSA and SHA-256")
	}
	return bytes.ReplaceAll(der, sha256WithRSA, sha1WithRSA)
}
