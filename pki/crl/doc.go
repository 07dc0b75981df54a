// Package crl writes and reads certificate revocation lists (RFC 5280 section 5, BR 7.2), entry by entry.
//
// Invariant: memory is bounded whatever the number of entries, writing and reading; what WriteFile emits is exactly
// what was signed: a second pass over the entry file, hashed again while it leaves. The same input gives the same TBSCertList.
//
// Refuses: entries out of order or twice, reasons 6, 7 and 8, an empty revokedCertificates, a negative number, a scope
// without the distribution point that carries it, an issuer that may not sign CRLs; and, reading, indirect, delta and
// attribute CRLs, onlySomeReasons, and anything that is not DER.
package crl
