// Package forged makes the forged OCSP responses of 2020 and says what our own check makes of them: a root, a sibling
// intermediate A, and answers about A signed by whoever should not.
//
// Purpose: show in a second, with real keys, that any child of an authority with the OCSPSigning purpose can speak for all
// of that authority's children, that other validators believe it, and that ours does not. The corpus in testdata holds the
// same cases with a hundred years of validity, so that a change of any validator's mind is noticed.
//
// Invariant: nothing made here is under a key of a house; the keys are thrown away with the process.
//
// Refuses: to decide trust by RFC 6960 section 4.2.2.2 alone; that is what the cases exploit.
package forged

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// Case is one response about sibling A.
type Case struct {
	Name     string // "A"
	Signer   string // who signed it, in words
	Lawful   bool   // the responder that should have signed it
	Response []byte // DER OCSPResponse
}

// Set is the hierarchy and its cases.
type Set struct {
	Root    *x509.Certificate
	Sibling *x509.Certificate // A: the certificate that every case speaks of
	Serial  bulkhead.Serial
	Cases   []Case
}

var idNoCheck = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}

// Make makes keys, certificates and responses that are valid from an hour before now and for the validity.
func Make(rand io.Reader, now time.Time, validity time.Duration) (Set, error) {
	now = now.UTC().Truncate(time.Second)
	m := &maker{rand: rand, now: now, end: now.Add(validity)}
	root := m.issue(nil, "Demo Root", ca(nil))
	a := m.issue(root, "Demo Sibling A", ca(nil))
	signers := []struct {
		name, who string
		lawful    bool
		template  x509.Certificate
	}{
		{"A", "the root's own OCSP delegate (BR 7.1.2.8)", true, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, ExtraExtensions: noCheck()}},
		{"B", "another intermediate of the root, with the OCSPSigning purpose", false, ca([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageOCSPSigning})},
		{"B2", "the same with nocheck: it cannot even be revoked", false, withNoCheck(ca([]x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}))},
		{"C", "another intermediate of the root, without the purpose", false, ca([]x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})},
		{"D", "a TLS server certificate of the root", false, x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{"leaf.test"}}},
	}
	s := Set{}
	for _, x := range signers {
		p := m.issue(root, "Demo "+x.name, x.template)
		s.Cases = append(s.Cases, Case{Name: x.name, Signer: x.who, Lawful: x.lawful, Response: m.answer(root, a, p)})
	}
	if m.err != nil {
		return Set{}, fmt.Errorf("forged: %w", m.err)
	}
	s.Root, s.Sibling = root.cert, a.cert
	var err error
	s.Serial, err = bulkhead.SerialFromBig(a.cert.SerialNumber)
	return s, err
}

// Check is our own verdict on a case: nil when the response is believed.
func (s Set) Check(c Case, now time.Time) error {
	r, err := ocsp.ParseResponse(c.Response)
	if err != nil {
		return err
	}
	_, err = ocsp.CheckResponse(r, s.Root, s.Serial, now)
	return err
}

// Verdict is what to think of a case: ours and another validator's belief. asked is false where there is no other.
func Verdict(c Case, ours, asked, other bool) string {
	switch {
	case c.Lawful && ours && (!asked || other):
		return "accepted"
	case c.Lawful:
		return "REFUSED, and it is lawful"
	case ours:
		return "ACCEPTED BY US: a defect"
	case asked && other:
		return "accepted by OpenSSL: DANGEROUS"
	case !asked:
		return "rejected by us; nobody else was asked"
	default:
		return "rejected"
	}
}

func ca(purposes []x509.ExtKeyUsage) x509.Certificate {
	return x509.Certificate{IsCA: true, BasicConstraintsValid: true, ExtKeyUsage: purposes,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature}
}

func noCheck() []pkix.Extension { return []pkix.Extension{{Id: idNoCheck, Value: []byte{5, 0}}} }

func withNoCheck(c x509.Certificate) x509.Certificate {
	c.ExtraExtensions = noCheck()
	return c
}

type party struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// maker keeps the first error, so that making reads in one go.
type maker struct {
	rand     io.Reader
	now, end time.Time
	last     int64
	err      error
}

// issue signs a template; a nil parent means self-signed. After an error it returns a party without substance.
func (m *maker) issue(parent *party, name string, c x509.Certificate) *party {
	if m.err != nil {
		return &party{}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), m.rand)
	if err != nil {
		m.err = err
		return &party{}
	}
	m.last++
	c.SerialNumber = big.NewInt(0x2020_0700 + m.last)
	c.Subject = pkix.Name{CommonName: name, Organization: []string{"bulkhead demo"}}
	c.NotBefore, c.NotAfter = m.now.Add(-time.Hour), m.end
	signer := &party{&c, key}
	if parent != nil {
		signer = parent
	}
	der, err := x509.CreateCertificate(m.rand, &c, signer.cert, key.Public(), signer.key)
	if err != nil {
		m.err = err
		return &party{}
	}
	p := &party{key: key}
	p.cert, m.err = x509.ParseCertificate(der)
	return p
}

// answer has p say that about is good, as root's responder.
func (m *maker) answer(root, about, p *party) []byte {
	if m.err != nil {
		return nil
	}
	der, err := m.sign(root, about, p)
	m.err = err
	return der
}

func (m *maker) sign(root, about, p *party) ([]byte, error) {
	issuer, err := ocsp.NewIssuer(root.cert.RawSubject, root.cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	serial, err := bulkhead.SerialFromBig(about.cert.SerialNumber)
	if err != nil {
		return nil, err
	}
	responder, err := ocsp.KeyHash(p.cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	good := ocsp.Single{Serial: serial, State: ocsp.Good, ThisUpdate: m.now.Add(-time.Minute), NextUpdate: m.end.Add(-time.Hour)}
	tbs, err := ocsp.BuildTBSFor(issuer, responder, m.now, good, ocsp.SHA1)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(tbs)
	sig, err := p.key.Sign(m.rand, sum[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return ocsp.Assemble(tbs, sig, p.cert.Raw), nil
}
