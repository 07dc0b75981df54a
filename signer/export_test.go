package signer

import (
	"crypto"
	"crypto/x509"

	"bulkhead"
	"bulkhead/pki/fixedkey"
)

// LintedTBS is what the linter saw.
func LintedTBS(t *Token) []byte { return t.t.tbs }

// SignWith signs with a key of the test's choice under a certificate of the test's choice.
func SignWith(s *Signer, key crypto.Signer, cert *x509.Certificate, tbs []byte) ([]byte, error) {
	return s.signTBS(&authority{Authority: bulkhead.Authority{ID: "test"}, cert: cert, key: key, check: fixedkey.New(cert)}, tbs)
}

// Waiting is how many callers are inside the group commit of an operation of the store.
func Waiting(s *Signer, op string) int64 {
	if op == "Reserve" {
		return s.reserves.callers.Load()
	}
	return s.completes.callers.Load()
}

// KeepLists has a signer keep what the CRLs of shards listed from so many entries on.
func KeepLists(s *Signer, least int) { s.lists.least = least }
