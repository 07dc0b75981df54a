// Package graph reads certificates of any origin and says how they hang together: authorities are nodes (a name and a
// key), certificates are edges from the authority that signed to the authority that is named.
//
// Two questions are answered. Which chains lead from a certificate to a set of trust anchors, and which are lost when
// some certificates are revoked (Paths, Effect): a certificate with another chain is at risk only for those who do not
// have that other root. And what is dangerous in a hierarchy (Audit), first of all an authority that can sign OCSP
// answers for its siblings.
//
// Invariant: no input is dropped. Every PEM block and every file given to Read comes back as a certificate or as
// Unparsed with a reason; what is wrong inside a certificate that can be read is listed in its Problems. Work and memory
// are bounded by the limits of this package, and where a limit cuts something off, the result says so.
//
// Refuses: to judge trust. A path here is signatures, cA, path length and validity; name constraints and policies are
// findings, not filters. It has no clock and reads no files: time and bytes are parameters.
package graph
