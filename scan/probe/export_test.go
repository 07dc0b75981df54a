package probe

import (
	"crypto/x509"
	"time"

	"bulkhead"
	"bulkhead/pki/keycheck"
)

// Chain is what a whole look says of a chain.
func Chain(der [][]byte, known []*x509.Certificate, allow keycheck.Rules, at time.Time) *bulkhead.ServedChain {
	return describe(der, known, at, func(c *x509.Certificate, _ bulkhead.Hash) string { return weakness(c, allow) })
}
