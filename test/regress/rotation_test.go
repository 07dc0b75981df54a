package regress

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// verify runs openssl verify -crl_check over a leaf with the list that it names.
func (h *house) verify(p paper) (string, error) {
	h.t.Helper()
	dir := h.t.TempDir()
	list, _ := h.crl(p)
	return openssl(h.t, "verify", "-attime", itoa(h.now().Unix()), "-crl_check", "-x509_strict", "-CAfile", write(h.t, dir, "root.pem", "CERTIFICATE", h.root.Raw),
		"-untrusted", write(h.t, dir, "issuer.pem", "CERTIFICATE", p.issuer.Raw), "-CRLfile", write(h.t, dir, "list.pem", "X509 CRL", list.Raw),
		write(h.t, dir, "leaf.pem", "CERTIFICATE", p.leaf.Raw))
}

// TestRotationKeepsRevocations: with one peer a new intermediate key takes the old issuer's CRL away, and openssl says of
// a revoked certificate "unable to get certificate CRL".
func TestRotationKeepsRevocations(t *testing.T) {
	h := newHouse(t)
	gone, kept, later := h.issue("gone.rotation.test"), h.issue("kept.rotation.test"), h.issue("later.rotation.test")
	h.revoke(bulkhead.Superseded, gone.CertificateRef)
	h.rotate(issuing, "issuing-p256-g2")
	next, err := h.order("next.rotation.test", newKey(t), "", bulkhead.CertificateRef{})
	ok(t, err)
	h.look()
	if next.Issuer != "issuing-p256-g2" {
		t.Fatalf("after the rotation %s issues", next.Issuer)
	}
	check := func() {
		t.Helper()
		h.want(gone, "revoked")
		h.want(kept, "good")
		h.want(next, "good")
		if out, err := h.verify(gone); err == nil || !strings.Contains(out, "certificate revoked") {
			t.Errorf("openssl of the revoked old leaf: %v\n%s", err, out)
		}
		for _, p := range []paper{kept, next} {
			if out, err := h.verify(p); err != nil {
				t.Errorf("openssl of %s: %v\n%s", p.leaf.DNSNames[0], err, out)
			}
		}
	}
	check()
	h.revoke(bulkhead.CessationOfOperation, later.CertificateRef) // the old issuer's list still moves
	h.want(later, "revoked")
	for range 3 {
		h.pass(4 * 24 * time.Hour) // its lists and answers turn over
		check()
	}
	h.restart()
	check()
	h.want(later, "revoked")
	dir := t.TempDir()
	out, err := openssl(t, "ocsp", "-no_nonce", "-issuer", write(t, dir, "issuer.pem", "CERTIFICATE", gone.issuer.Raw), "-cert", write(t, dir, "leaf.pem", "CERTIFICATE", gone.leaf.Raw),
		"-CAfile", write(t, dir, "root.pem", "CERTIFICATE", h.root.Raw), "-respin", h.answerFile(gone), "-attime", itoa(h.now().Unix()))
	if err != nil || !strings.Contains(out, "Reason: superseded") || !strings.Contains(out, "Response verify OK") {
		t.Errorf("openssl ocsp: %v\n%s", err, out)
	}
}
