package probe

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/pki/keycheck"
)

// weakness is why the key of c may not be certified, empty when nothing is known against it.
func weakness(c *x509.Certificate, allow keycheck.Rules) string {
	if f := bulkhead.AsFault(keycheck.Check(c.PublicKey, allow)); f != nil {
		return f.Detail
	}
	return ""
}

// memo remembers what was found about keys: the check of an RSA key costs more than a handshake, and the same keys are
// looked at again and again. The answer depends on the key and the rules alone.
type memo struct {
	mu    sync.Mutex
	found map[bulkhead.Hash]string
}

const maxMemo = 4096

func (m *memo) weakness(c *x509.Certificate, spki bulkhead.Hash, allow keycheck.Rules) string {
	m.mu.Lock()
	why, ok := m.found[spki]
	m.mu.Unlock()
	if ok {
		return why
	}
	why = weakness(c, allow)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.found == nil || len(m.found) >= maxMemo {
		m.found = map[bulkhead.Hash]string{}
	}
	m.found[spki] = why
	return why
}

// describe says what is to say about a served chain at a time. known are authorities by which it can tell that a chain ends
// too early; without them only a leaf that comes without its issuer is called incomplete. It never fails: what cannot be
// read is said in Malformed.
func describe(der [][]byte, known []*x509.Certificate, at time.Time, weak func(*x509.Certificate, bulkhead.Hash) string) *bulkhead.ServedChain {
	out := &bulkhead.ServedChain{DER: der}
	if len(der) == 0 {
		out.Malformed = "no certificate was served"
		return out
	}
	leaf, err := x509.ParseCertificate(der[0])
	if err != nil {
		out.Malformed = err.Error()
		return out
	}
	out.Serial, err = bulkhead.SerialFromBig(leaf.SerialNumber)
	if err != nil {
		out.Malformed = "serial number: " + err.Error()
	}
	out.Names = append(out.Names, leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		out.Names = append(out.Names, ip.String())
	}
	out.Subject, out.Issuer = leaf.Subject.String(), leaf.Issuer.String()
	out.NotBefore, out.NotAfter = leaf.NotBefore, leaf.NotAfter
	out.Expired = at.After(leaf.NotAfter)
	out.Key = keyFacts(leaf, weak)
	sortOut(out, leaf, known)
	return out
}

func keyFacts(c *x509.Certificate, weak func(*x509.Certificate, bulkhead.Hash) string) bulkhead.KeyFacts {
	k := bulkhead.KeyFacts{SPKI: keycheck.SPKIHash(c.RawSubjectPublicKeyInfo)}
	switch pub := c.PublicKey.(type) {
	case *rsa.PublicKey:
		k.Algorithm, k.Bits = "RSA", pub.N.BitLen()
	case *ecdsa.PublicKey:
		k.Algorithm, k.Bits = "ECDSA", pub.Curve.Params().BitSize
	case ed25519.PublicKey:
		k.Algorithm, k.Bits = "Ed25519", 256
	default:
		k.Algorithm = algorithmOID(c.RawSubjectPublicKeyInfo)
		k.Weak = "a key of this kind is not known here"
		return k
	}
	k.Weak = weak(c, k.SPKI)
	return k
}

func algorithmOID(spki []byte) string {
	var s struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(spki, &s); err != nil {
		return "unknown"
	}
	return s.Algorithm.Algorithm.String()
}

// sortOut walks from the leaf through the certificates served and tells what is missing, superfluous and out of order.
func sortOut(out *bulkhead.ServedChain, leaf *x509.Certificate, known []*x509.Certificate) {
	var served []*x509.Certificate // without the leaf; nil for what cannot be read
	for _, der := range out.DER[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			out.Superfluous = append(out.Superfluous, "a certificate that cannot be read: "+err.Error())
		}
		served = append(served, c)
	}
	used := make([]bool, len(served))
	last, top := -1, leaf
	for !selfIssued(top) {
		at := slices.IndexFunc(served, func(c *x509.Certificate) bool { return c != nil && signed(c, top) })
		if at < 0 || used[at] {
			break
		}
		if selfIssued(served[at]) {
			top = served[at] // a root that everybody must have already: it stays unused, thus superfluous
			break
		}
		used[at] = true
		out.Disorder = out.Disorder || at < last
		last, top = at, served[at]
	}
	for i, c := range served {
		if c != nil && !used[i] {
			out.Superfluous = append(out.Superfluous, c.Subject.String())
		}
	}
	if selfIssued(top) {
		return
	}
	for _, k := range known {
		if signed(k, top) {
			if !selfIssued(k) {
				out.Missing = k.Subject.String()
			}
			return
		}
	}
	if top == leaf && !leaf.IsCA {
		out.Missing = leaf.Issuer.String() // roots do not issue leaves (BR 6.1.7)
	}
}

func selfIssued(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, c.RawIssuer) }

// signed reports whether issuer made c. Signatures of algorithms that are no longer verified count by names alone.
func signed(issuer, c *x509.Certificate) bool {
	if !bytes.Equal(issuer.RawSubject, c.RawIssuer) || !issuer.IsCA {
		return false
	}
	if len(c.AuthorityKeyId) > 0 && len(issuer.SubjectKeyId) > 0 && !bytes.Equal(c.AuthorityKeyId, issuer.SubjectKeyId) {
		return false
	}
	err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	_, old := err.(x509.InsecureAlgorithmError) //nolint:errorlint // returned as it is
	return err == nil || old || err == x509.ErrUnsupportedAlgorithm
}
