// Package csr reads certification requests (PKCS #10, RFC 2986) and proves that who made them has the key. Enrolment and the
// signer do so by the same few lines.
//
// Invariant: Read returns a request only when this process has verified its signature over these very octets, all of them.
// It refuses signatures of algorithms that anybody could forge. What a request may ask for is its readers' business.
package csr

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"

	"bulkhead"
)

// Reader remembers the requests that it has verified last, by the digest of all their octets: in a process that both takes an
// order and signs for it, both read the same one. That a signature verifies is so for ever, so that nothing here can be stale.
// Where they are two processes each has its own. The zero value is ready; safe for concurrent use.
type Reader struct {
	mu   sync.Mutex
	seen map[[sha256.Size]byte]*x509.CertificateRequest
	ring [remembered][sha256.Size]byte // of what is in seen, the oldest at next
	next int
}

const (
	remembered = 64      // requests; with a larger number of orders at once some are verified twice
	largest    = 8 << 10 // octets of one that is remembered
)

// Read parses a DER request and verifies its signature with its own key. What it returns is shared and must not be changed.
// KindBadCSR, or KindBadSignatureAlgorithm for one by MD5 or SHA-1 or an algorithm that is not known.
func (r *Reader) Read(der []byte) (*x509.CertificateRequest, error) {
	digest := sha256.Sum256(der)
	r.mu.Lock()
	known := r.seen[digest]
	r.mu.Unlock()
	if known != nil {
		return known, nil
	}
	req, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindBadCSR, "the request is not a DER certification request (PKCS #10, RFC 2986)").WithCause(err).WithHint("make a new CSR")
	}
	switch req.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.MD2WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.UnknownSignatureAlgorithm:
		return nil, bulkhead.Faultf(bulkhead.KindBadSignatureAlgorithm, "the CSR is signed with %v", req.SignatureAlgorithm).WithHint("sign the CSR with SHA-256")
	}
	if err := req.CheckSignature(); err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindBadCSR, "the signature of the request does not verify with its own key").WithCause(err).WithHint("make a new CSR")
	}
	if len(der) <= largest {
		r.remember(digest, req)
	}
	return req, nil
}

func (r *Reader) remember(digest [sha256.Size]byte, req *x509.CertificateRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = make(map[[sha256.Size]byte]*x509.CertificateRequest, remembered)
	}
	if r.seen[digest] != nil {
		return
	}
	delete(r.seen, r.ring[r.next])
	r.ring[r.next], r.seen[digest] = digest, req
	r.next = (r.next + 1) % remembered
}
