package firstlight

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// asker is a relying party that does not wait for ever.
var asker = &http.Client{Timeout: time.Minute}

// publicWithin bounds the wait for a new certificate's first answer, and for a revocation at the edge, which looks every half second.
const publicWithin = time.Minute

// issued is what `issue --json` prints.
type issued struct {
	Certificate struct {
		Issuer, Serial, State, Profile string
	}
	Files struct{ Key, Cert, Chain, FullChain, Root string }
}

// issue gets a certificate by the command line into a folder of its own.
func (h *house) issue(name string, more ...string) issued {
	h.t.Helper()
	var got issued
	h.query(&got, append([]string{"issue", name, "--out", h.t.TempDir()}, more...)...)
	return got
}

// paper is a certificate with its issuer, both parsed and on disk.
type paper struct {
	leaf, issuer         *x509.Certificate
	leafFile, issuerFile string
}

func (i issued) paper(t testing.TB) paper {
	t.Helper()
	return paper{leaf: certificates(t, i.Files.Cert)[0], issuer: certificates(t, i.Files.Chain)[0], leafFile: i.Files.Cert, issuerFile: i.Files.Chain}
}

// newPaper puts two certificates on disk.
func newPaper(t testing.TB, leaf, issuer *x509.Certificate) paper {
	t.Helper()
	dir := t.TempDir()
	p := paper{leaf, issuer, filepath.Join(dir, "leaf.pem"), filepath.Join(dir, "issuer.pem")}
	ok(t, os.WriteFile(p.leafFile, pemOf(leaf.Raw), 0o600))
	ok(t, os.WriteFile(p.issuerFile, pemOf(issuer.Raw), 0o600))
	return p
}

// ask gets an OCSP answer as Go's library makes and judges it.
func ask(t testing.TB, method string, serial *big.Int, p paper, hash crypto.Hash) (*ocsp.Response, []byte, error) {
	t.Helper()
	asked := *p.leaf
	asked.SerialNumber = serial
	req, err := ocsp.CreateRequest(&asked, p.issuer, &ocsp.RequestOptions{Hash: hash})
	ok(t, err)
	base := p.leaf.OCSPServer[0]
	var res *http.Response
	if method == http.MethodGet {
		res, err = asker.Get(base + url.PathEscape(base64.StdEncoding.EncodeToString(req))) //nolint:noctx // a test against loopback
	} else {
		res, err = asker.Post(base, "application/ocsp-request", bytes.NewReader(req)) //nolint:noctx // a test against loopback
	}
	ok(t, err)
	defer res.Body.Close()
	der, err := io.ReadAll(res.Body)
	ok(t, err)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("OCSP %s: %s", method, res.Status)
	}
	answer, err := ocsp.ParseResponseForCert(der, &asked, p.issuer)
	return answer, der, err
}

// status is the certificate's OCSP status in words.
func (p paper) status(t testing.TB) string {
	t.Helper()
	r, _, err := ask(t, http.MethodPost, p.leaf.SerialNumber, p, crypto.SHA1)
	if err != nil {
		return err.Error()
	}
	return map[int]string{ocsp.Good: "good", ocsp.Revoked: "revoked", ocsp.Unknown: "unknown"}[r.Status]
}

// awaitGood waits for the first answer of a new certificate.
func (p paper) awaitGood(t testing.TB) {
	t.Helper()
	eventually(t, publicWithin, func() string {
		if s := p.status(t); s != "good" {
			return "OCSP says " + s
		}
		return ""
	})
}

// awaitRevoked waits until OCSP and CRL say it.
func (p paper) awaitRevoked(t testing.TB) {
	t.Helper()
	eventually(t, publicWithin, func() string {
		if s := p.status(t); s != "revoked" {
			return "OCSP says " + s
		}
		if !p.onCRL(t) {
			return "the CRL does not list it"
		}
		return ""
	})
}

// crl fetches the list that the certificate names and verifies it.
func (p paper) crl(t testing.TB) (*x509.RevocationList, []byte) {
	t.Helper()
	der := fetch(t, p.leaf.CRLDistributionPoints[0])
	list, err := x509.ParseRevocationList(der)
	ok(t, err)
	ok(t, list.CheckSignatureFrom(p.issuer))
	return list, der
}

func (p paper) onCRL(t testing.TB) bool {
	t.Helper()
	list, _ := p.crl(t)
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(p.leaf.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

func fetch(t testing.TB, address string) []byte {
	t.Helper()
	res, err := asker.Get(address) //nolint:noctx,gosec // a test against loopback
	ok(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ok(t, err)
	if res.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s %s", address, res.Status, body)
	}
	return body
}

// opensslOCSP asks openssl, which verifies the responder against the trust anchor.
func (h *house) opensslOCSP(p paper, hash string) string {
	h.t.Helper()
	out, err := openssl(h.t, "ocsp", "-no_nonce", "-issuer", p.issuerFile, "-"+hash, "-cert", p.leafFile, "-url", p.leaf.OCSPServer[0], "-CAfile", h.ready.TrustAnchor)
	if err != nil || !strings.Contains(out, "Response verify OK") {
		h.t.Fatalf("openssl ocsp: %v\n%s", err, out)
	}
	_, after, _ := strings.Cut(out, p.leafFile+": ")
	word, _, _ := strings.Cut(after, "\n")
	return word
}

// opensslVerify runs openssl verify -crl_check_all with the lists that the certificates name.
func (h *house) opensslVerify(p paper) (string, error) {
	h.t.Helper()
	dir := h.t.TempDir()
	args := []string{"verify", "-crl_check_all", "-x509_strict", "-CAfile", h.ready.TrustAnchor, "-untrusted", p.issuerFile}
	for i, x := range []*x509.Certificate{p.leaf, p.issuer} {
		list := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: fetch(h.t, x.CRLDistributionPoints[0])})
		args = append(args, "-CRLfile", write(h.t, dir, fmt.Sprint(i, ".crl"), list))
	}
	return openssl(h.t, append(args, p.leafFile)...)
}

func write(t testing.TB, dir, name string, body []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	ok(t, os.WriteFile(path, body, 0o600))
	return path
}

func randomSerial(t testing.TB) *big.Int {
	t.Helper()
	b := make([]byte, 16)
	_, err := rand.Read(b)
	ok(t, err)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}
