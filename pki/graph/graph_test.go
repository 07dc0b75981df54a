package graph

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"slices"
	"testing"
	"time"
)

// now is the time of these tests.
var now = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// maker makes certificates; keys are kept by name.
type maker struct {
	t    testing.TB
	keys map[string]*ecdsa.PrivateKey
	last int64
}

func newMaker(t testing.TB) *maker { return &maker{t: t, keys: map[string]*ecdsa.PrivateKey{}} }

func (m *maker) key(name string) *ecdsa.PrivateKey {
	if m.keys[name] == nil {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			m.t.Fatal(err)
		}
		m.keys[name] = k
	}
	return m.keys[name]
}

// ca is a template of an authority that is fine.
func ca(change ...func(*x509.Certificate)) *x509.Certificate {
	c := &x509.Certificate{NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(5, 0, 0), IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	for _, f := range change {
		f(c)
	}
	return c
}

func leaf(names ...string) *x509.Certificate {
	return &x509.Certificate{NotBefore: now.AddDate(0, -1, 0), NotAfter: now.AddDate(0, 1, 0), DNSNames: names, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
}

// der signs a certificate for subject's key with issuer's key; both are common names too.
func (m *maker) der(subject, issuer string, template *x509.Certificate) []byte {
	m.t.Helper()
	t := *template
	t.Subject = pkix.Name{CommonName: subject}
	if t.SerialNumber == nil {
		m.last++
		t.SerialNumber = new(big.Int).Add(new(big.Int).Lsh(big.NewInt(0x4711), 100), big.NewInt(m.last))
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: issuer}, SubjectKeyId: keyID(m.key(issuer))}
	if t.SubjectKeyId == nil {
		t.SubjectKeyId = keyID(m.key(subject))
	}
	if subject == issuer {
		parent = &t
	}
	out, err := x509.CreateCertificate(rand.Reader, &t, parent, m.key(subject).Public(), m.key(issuer))
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func keyID(k *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(crypto.PublicKey(k.Public()))
	if err != nil {
		panic(err)
	}
	return der[len(der)-20:]
}

func (m *maker) cert(subject, issuer string, template *x509.Certificate) *Certificate {
	m.t.Helper()
	c, err := Parse(m.der(subject, issuer, template))
	if err != nil {
		m.t.Fatal(err)
	}
	if len(c.Problems) > 0 {
		m.t.Fatalf("%s: %v", subject, c.Problems)
	}
	return c
}

// of gives the findings of one rule.
func of(list []Finding, r Rule) []Finding {
	return slices.DeleteFunc(slices.Clone(list), func(f Finding) bool { return f.Rule != r })
}

func ocspSigning(c *x509.Certificate) {
	c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageOCSPSigning)
}

func anyUsage(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageAny) }

func noCheck(c *x509.Certificate) {
	c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: []int{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: []byte{5, 0}})
}

// family is six authorities of which B and D are dangerous, and a cross-certificate among the siblings.
func family(m *maker) map[string]*Certificate {
	return map[string]*Certificate{
		"root":  m.cert("Root", "Root", ca()),
		"A":     m.cert("A", "Root", ca()),
		"B":     m.cert("B", "Root", ca(ocspSigning, noCheck)),
		"cross": m.cert("Other Root", "Root", ca()),
		"C":     m.cert("C", "A", ca()),
		"D":     m.cert("D", "A", ca(ocspSigning)),
	}
}

func values(m map[string]*Certificate) []*Certificate {
	var out []*Certificate
	for _, c := range m {
		out = append(out, c)
	}
	return out
}

// TestOCSPSigning is the audit of July 2020: exactly the dangerous authorities, and whom they endanger.
func TestOCSPSigning(t *testing.T) {
	f := family(newMaker(t))
	for name, list := range map[string][]*Certificate{"with the root": values(f), "without": slices.DeleteFunc(values(f), func(c *Certificate) bool { return c == f["root"] })} {
		findings := Audit(New(list), now)
		got := of(findings, RuleOCSPSigning)
		if len(got) != 2 || got[0].Certificate != f["B"] || got[1].Certificate != f["D"] {
			t.Fatalf("%s: %v", name, got)
		}
		if want := []*Certificate{f["A"], f["cross"]}; !slices.Equal(got[0].Victims, want) || got[0].Total != 2 {
			t.Errorf("%s: B endangers %v", name, got[0].Victims)
		}
		if want := []*Certificate{f["C"]}; !slices.Equal(got[1].Victims, want) {
			t.Errorf("%s: D endangers %v", name, got[1].Victims)
		}
		if name == "with the root" && len(findings) != 2 {
			t.Errorf("other findings: %v", findings)
		}
	}
}
