// Package regress has one test for each fault that other certificate authorities were seen to have, named for it, so that
// it cannot come in unseen.
//
// Purpose: never-issued serials that are revoked or called good, a rotation that erases revocations, an older answer that
// outlives a newer one, CRL numbers that go back, dates that are no dates, caches that keep one variant, compromised keys
// that come back by another door, bulk revocations that are half done, lists that are too long, connections that are
// silent, identifiers that are not what somebody guessed, certificates that look alike.
//
// Invariant: real compartments over a real store and real keys; what the public sees is asked over HTTP and judged with
// libraries that the house does not use.
//
// Refuses: to skip. A tool that is not installed fails its test with the name of the package to install.
package regress
