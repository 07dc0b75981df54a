// Package ocsp is the OCSP codec (RFC 6960, 9654, 9919) and the check that a response was signed by somebody who may.
//
// Invariant: the same bytes in give the same bytes out; time, keys and signatures are parameters. Everything that
// arrives is read as strict DER, and what cannot be read is KindMalformed, never a panic. Name, key and serial together
// name a certificate; one of them alone never does.
//
// A pre-signed answer (BuildTBSFor) makes one statement, for one CertID hash: Go's ParseResponse, which CertMagic and lego
// call, refuses two. An answer to one request (BuildLiveTBS) makes a statement for each CertID that was asked, in order,
// and repeats the nonce. OpenSSL searches for the CertID with which it asked, GnuTLS takes the first statement under
// whatever hash it has, and Go's ParseResponseForCert goes by serial. The tests try all of them.
//
// Refuses: to take the responder-authorisation rule of RFC 6960 section 4.2.2.2 as enough. A CA certificate with the
// OCSPSigning purpose is no delegate here, though other validators believe it; nor is a certificate without the purpose,
// of a neighbouring authority, of another key under the same name, or out of date. Signatures with SHA-1, reasonCode as a
// single extension, and the reasons that may not stand in a response (RFC 5280 section 5.3.1: 6, 7, 8) are refused both ways.
package ocsp
