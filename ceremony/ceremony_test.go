package ceremony

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/lint"
)

var testNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func name(cn string) Name { return Name{CommonName: cn, Organization: "Test House", Country: "CH"} }

func newRing(t testing.TB) *keys.FileRing {
	t.Helper()
	identity := filepath.Join(t.TempDir(), "identity.txt")
	if _, err := keys.NewIdentity(identity); err != nil {
		t.Fatal(err)
	}
	ring, err := keys.OpenFileRing(keys.Config{Dir: t.TempDir(), IdentityFile: identity})
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func request(t testing.TB, ring keys.Ring, keyName string, alg keys.Algorithm) Request {
	t.Helper()
	r, err := NewCSR(context.Background(), ring, keyName, name(keyName), alg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// requests come from a host whose ring is not part of most tests; they are made once.
var requests = sync.OnceValue(func() map[string]Request {
	out := make(map[string]Request)
	for id, alg := range map[string]keys.Algorithm{
		"issuing-p256": keys.P256, "issuing-rsa": keys.RSA2048, "infrastructure": keys.P256,
		"root-delegate-a": keys.P256, "root-delegate-b": keys.P256, "root-delegate-c": keys.P256, "root-delegate-d": keys.P256,
	} {
		var key crypto.Signer
		var err error
		if alg == keys.RSA2048 {
			key, err = rsa.GenerateKey(rand.Reader, 2048)
		} else {
			key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		}
		if err != nil {
			panic(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: name(id).PKIX()}, key)
		if err != nil {
			panic(err)
		}
		out[string(alg)+id] = Request{CSR: der, KeyURI: "file:" + id + ".age"}
	}
	return out
})

// firstPlan is the hierarchy of a first start: root, two issuing authorities, an infrastructure authority, delegates
// and CRLs of the root.
func firstPlan(t testing.TB, rootAlg keys.Algorithm) Plan {
	t.Helper()
	online := requests()
	issuing := func(id string, kind bulkhead.AuthorityKind, alg keys.Algorithm) Step {
		return Step{Issuing: &IssuingStep{ID: bulkhead.AuthorityID(id), Kind: kind, Parent: "root", Subject: name("Test " + id), Request: online[string(alg)+id], Days: 1825, Shards: 4}}
	}
	delegates := &DelegateStep{Authority: "root", Subject: name("Test Root Responder"), TurnoverDays: 91, OverlapDays: 30}
	for _, n := range []string{"a", "b", "c", "d"} {
		delegates.Requests = append(delegates.Requests, online[string(keys.P256)+"root-delegate-"+n])
	}
	return Plan{
		Title: "first start", StatusURL: "http://127.0.0.1:14080", Root: "root",
		Steps: []Step{
			{Root: &RootStep{ID: "root", Subject: name("Test Root"), Algorithm: rootAlg, Days: 5478}},
			issuing("issuing-p256", bulkhead.IssuingAuthority, keys.P256),
			issuing("issuing-rsa", bulkhead.IssuingAuthority, keys.RSA2048),
			issuing("infrastructure", bulkhead.InfrastructureAuthority, keys.P256),
			{Delegate: delegates},
			{CRL: &CRLStep{Authority: "root", HorizonDays: 365, TurnoverDays: 30, OverlapDays: 30}},
		},
	}
}

// linter is made once: filtering the rules takes a moment, and it never changes.
var linter = sync.OnceValue(func() *lint.Linter {
	l, err := lint.New(lint.Config{PrivateNames: true})
	if err != nil {
		panic(err)
	}
	return l
})

func config(ring keys.Ring) Config {
	return Config{Ring: ring, Now: func() time.Time { return testNow }, Rand: rand.Reader, Who: []string{"Ada", "Grace"}, Lint: linter()}
}

func execute(t testing.TB, c Config, p Plan) *Result {
	t.Helper()
	r, err := Execute(context.Background(), c, p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func parse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFirstCeremony(t *testing.T) {
	for _, alg := range []keys.Algorithm{keys.P256, keys.P384, keys.RSA2048} {
		t.Run(string(alg), func(t *testing.T) {
			r := execute(t, config(newRing(t)), firstPlan(t, alg))
			root := parse(t, r.Authorities[0].Certificate)
			if len(r.Authorities) != 4 || len(r.Certificates) != 3+4 || len(r.Prepared) != 4+13 {
				t.Errorf("%d authorities, %d certificates, %d prepared", len(r.Authorities), len(r.Certificates), len(r.Prepared))
			}
			roots := x509.NewCertPool()
			roots.AddCert(root)
			for _, a := range r.Authorities {
				_, err := parse(t, a.Certificate).Verify(x509.VerifyOptions{Roots: roots, CurrentTime: testNow, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
				if err != nil {
					t.Errorf("%s: %v", a.ID, err)
				}
			}
			transcript, err := VerifyTranscript(r.Transcript, root)
			if err != nil {
				t.Fatal(err)
			}
			if len(transcript.Entries) != 6 {
				t.Errorf("%d entries", len(transcript.Entries))
			}
		})
	}
}

// TestPublicLint: a hierarchy with a public status URL passes without the exceptions for private names.
func TestPublicLint(t *testing.T) {
	public, err := lint.New(lint.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, base := range []string{"http://status.example.com", "http://127.0.0.1:14080"} {
		c, p := config(newRing(t)), firstPlan(t, keys.P384)
		c.Lint, p.StatusURL = public, base
		execute(t, c, p)
	}
}
