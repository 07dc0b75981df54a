package hammer

import (
	"crypto/x509"
	"testing"
)

// TestRequest: what the client hands in is what Go's library takes for a certification request over the name.
func TestRequest(t *testing.T) {
	key, err := newCertKey()
	ok(t, err)
	der, err := request(key.PrivateKey, key.spki, "a.example.com")
	ok(t, err)
	csr, err := x509.ParseCertificateRequest(der)
	ok(t, err)
	ok(t, csr.CheckSignature())
	if len(csr.DNSNames) != 1 || csr.DNSNames[0] != "a.example.com" || len(csr.IPAddresses)+len(csr.EmailAddresses)+len(csr.URIs) > 0 || csr.Subject.String() != "" {
		t.Errorf("%v %q", csr.DNSNames, csr.Subject)
	}
}
