// Package importer reads what another certificate authority leaves behind: openssl's index.txt, certificates in PEM and DER,
// CRLs, the JSON that OpenBao and Vault print, and dumps of step-ca's database.
//
// Input becomes pieces (Read); a piece is judged by itself, by as many goroutines as one likes (Set.Judge, and faster for
// many together Set.JudgeAll); judgements are taken one after the other (Set.Take), which keeps what the pieces say of each other.
//
// Invariant: every line, block and entry of the input is either taken or a Problem that names its file and line;
// nothing is dropped in silence. A certificate counts only when its signature verifies under the authority's key.
//
// Refuses: CRLs that the authority did not sign, two certificates with one serial, input beyond its limits. It reads
// bytes that it is handed, and knows no record and no clock.
package importer

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/fixedkey"
)

// Problem is a piece of the input that was not taken.
type Problem struct {
	File   string `json:"file"`
	Line   int    `json:"line"` // from 1; of JSON and DER 1
	Reason string `json:"reason"`
}

// Certificate is one certificate of the authority.
type Certificate struct {
	*x509.Certificate
	Serial      bulkhead.Serial
	Fingerprint bulkhead.Hash
	File        string
	Line        int
}

// Revocation is what a source says of a serial.
type Revocation struct {
	At     time.Time
	Reason bulkhead.Reason
	Source string
}

// CRL is a list that the authority signed.
type CRL struct {
	*x509.RevocationList
	File string
	Line int
}

// removeFromCRL is no revocation: it ends a hold (RFC 5280 section 5.3.1).
const removeFromCRL = 8

// Complete reports whether a certificate of the authority that the list does not name was not revoked at its time: it has no critical
// extension, such as those of a delta or of a part (RFC 5280 section 5.2).
func (c *CRL) Complete() bool {
	for _, e := range c.Extensions {
		if e.Critical {
			return false
		}
	}
	return c.Number != nil
}

// place is where a certificate was read first.
type place struct {
	fingerprint bulkhead.Hash
	file, line  int32
}

// Set is what was read so far. Make one with New, take what lists say first, then certificates, then Finish. It keeps about
// 150 octets a certificate, and not the certificates.
type Set struct {
	Authority *x509.Certificate
	Revoked   map[bulkhead.Serial]Revocation
	Problems  []Problem
	Newest    *CRL // that was given, by its number
	// Removed are certificates that a list takes off the one before (removeFromCRL), with the newest that does.
	Removed map[bulkhead.Serial]*CRL

	issuer   *fixedkey.Issuer // whose signature is looked at in each
	files    []string
	bySerial map[bulkhead.Serial]place
	listed   map[bulkhead.Serial]Problem // serials that a list names, and where
	lists    map[string]bool             // files whose lists were taken
}

// New begins a set for an authority.
func New(authority *x509.Certificate) *Set {
	return &Set{Authority: authority, issuer: fixedkey.New(authority), Revoked: map[bulkhead.Serial]Revocation{}, Removed: map[bulkhead.Serial]*CRL{}, bySerial: map[bulkhead.Serial]place{}, listed: map[bulkhead.Serial]Problem{}, lists: map[string]bool{}}
}

// Size is how many certificates of the authority were taken.
func (s *Set) Size() int { return len(s.bySerial) }

func (s *Set) problem(file string, line int, format string, args ...any) {
	s.Problems = append(s.Problems, Problem{File: file, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// Judged is a piece and what it is.
type Judged struct {
	Piece
	Certificate *Certificate         // of this authority, its signature verified; nil for everything else
	list        *x509.RevocationList // signed by this authority
	problem     string               // "" for a piece that is taken, or is the authority's own certificate
}

// Judge says what a piece is. It changes nothing and may be called from many goroutines at once.
func (s *Set) Judge(p Piece) Judged { return s.JudgeAll([]Piece{p})[0] }

// JudgeAll says of each piece what Judge says of it, in their order. Signatures of some dozens together cost a small part.
func (s *Set) JudgeAll(pieces []Piece) []Judged {
	out := make([]Judged, len(pieces))
	var all []fixedkey.Signed
	var of []*Judged // whose signature is at the same place in all
	for n, p := range pieces {
		j := &out[n]
		if *j = s.read(p); j.Certificate != nil {
			if all == nil {
				all, of = make([]fixedkey.Signed, 0, len(pieces)-n), make([]*Judged, 0, len(pieces)-n)
			}
			c := j.Certificate
			all, of = append(all, fixedkey.Signed{Algorithm: c.SignatureAlgorithm, Signed: c.RawTBSCertificate, Signature: c.Signature}), append(of, j)
		}
	}
	for n, err := range s.issuer.CheckAll(all) {
		j := of[n]
		if err != nil {
			j.problem = fmt.Sprintf("serial %s: the signature is not this authority's: %s", j.Certificate.Serial, err)
			j.Certificate = nil
			continue
		}
		j.Certificate.Fingerprint = bulkhead.Digest(j.Certificate.Raw)
	}
	return out
}

// read says what a piece is, but for the signature of a certificate.
func (s *Set) read(p Piece) Judged {
	j := Judged{Piece: p}
	if p.Problem != "" || len(p.DER) == 0 {
		j.problem = p.Problem
		return j
	}
	cert, err := x509.ParseCertificate(p.DER)
	if err == nil {
		j.Certificate, j.problem = s.certificate(p, cert)
		return j
	}
	list, lerr := x509.ParseRevocationList(p.DER)
	switch {
	case lerr != nil && p.bare:
		j.problem = "neither a certificate, a CRL, PEM nor JSON"
	case lerr != nil:
		j.problem = "not a certificate: " + err.Error()
	default:
		if err := list.CheckSignatureFrom(s.Authority); err != nil {
			j.problem = "the CRL is not this authority's: " + err.Error()
			return j
		}
		j.list = list
	}
	return j
}

// certificate is nil, with the reason, for one that says itself that it is not of this authority.
func (s *Set) certificate(p Piece, c *x509.Certificate) (*Certificate, string) {
	serial, err := bulkhead.SerialFromBig(c.SerialNumber)
	switch {
	case bytes.Equal(c.Raw, s.Authority.Raw):
		return nil, "" // the authority's own, which the set has
	case err != nil:
		return nil, bulkhead.AsFault(err).Detail
	case !bytes.Equal(c.RawIssuer, s.Authority.RawSubject):
		return nil, fmt.Sprintf("serial %s was issued by %q, not by this authority", serial, c.Issuer)
	}
	return &Certificate{Certificate: c, Serial: serial, File: p.File, Line: p.Line}, ""
}

// TakeList keeps what a piece says of revocations and of serials, and leaves its certificate for Take.
func (s *Set) TakeList(j Judged) {
	s.lists[j.File] = true
	switch {
	case j.list != nil:
		list := &CRL{RevocationList: j.list, File: j.File, Line: j.Line}
		if n := j.list.Number; n != nil && (s.Newest == nil || n.Cmp(s.Newest.Number) > 0) {
			s.Newest = list
		}
		for i, e := range j.list.RevokedCertificateEntries {
			serial, err := bulkhead.SerialFromBig(e.SerialNumber)
			if err != nil {
				s.problem(j.File, j.Line, "entry %d: %s", i+1, bulkhead.AsFault(err).Detail)
				continue
			}
			if e.ReasonCode == removeFromCRL {
				if had := s.Removed[serial]; had == nil || list.ThisUpdate.After(had.ThisUpdate) {
					s.Removed[serial] = list
				}
				continue
			}
			s.revoke(serial, Revocation{At: e.RevocationTime.UTC(), Reason: bulkhead.Reason(e.ReasonCode), Source: j.File}, j.File, j.Line)
		}
	case j.Serial != "":
		serial, err := bulkhead.ParseSerial(j.Serial)
		switch {
		case err != nil:
			s.problem(j.File, j.Line, "%s%s", j.Entry, bulkhead.AsFault(err).Detail)
		case !j.RevokedAt.IsZero():
			s.revoke(serial, Revocation{At: j.RevokedAt, Reason: j.Reason, Source: j.File}, j.File, j.Line)
		default:
			s.list(serial, j.File, j.Line)
		}
	case j.Certificate != nil && !j.RevokedAt.IsZero():
		s.revoke(j.Certificate.Serial, Revocation{At: j.RevokedAt, Reason: j.Reason, Source: j.File}, j.File, j.Line)
	}
}

// Take keeps a certificate: true for one that is new to the set. What is not taken becomes a Problem.
func (s *Set) Take(j Judged) bool {
	c := j.Certificate
	switch {
	case j.problem != "":
		s.problem(j.File, j.Line, "%s", j.problem)
		return false
	case (j.list != nil || j.Serial != "" || !j.RevokedAt.IsZero()) && !s.lists[j.File]:
		s.problem(j.File, j.Line, "this list came while the import was under way: give it again")
		return false
	case c == nil:
		return false
	}
	if have, ok := s.bySerial[c.Serial]; ok {
		if have.fingerprint != c.Fingerprint {
			s.problem(j.File, j.Line, "serial %s is another certificate in %s, line %d", c.Serial, s.files[have.file], have.line)
		}
		return false // the same certificate twice is one
	}
	if n := len(s.files); n == 0 || s.files[n-1] != j.File {
		s.files = append(s.files, j.File)
	}
	s.bySerial[c.Serial] = place{fingerprint: c.Fingerprint, file: int32(len(s.files) - 1), line: int32(j.Line)}
	return true
}

// list keeps where a serial is named first.
func (s *Set) list(serial bulkhead.Serial, name string, line int) {
	if _, ok := s.listed[serial]; !ok {
		s.listed[serial] = Problem{File: name, Line: line}
	}
}

// revoke keeps the earliest time; a reason is better than none.
func (s *Set) revoke(serial bulkhead.Serial, r Revocation, name string, line int) {
	s.list(serial, name, line)
	have, ok := s.Revoked[serial]
	if !ok {
		s.Revoked[serial] = r
		return
	}
	if r.At.Before(have.At) {
		have.At, have.Source = r.At, r.Source
	}
	if have.Reason == bulkhead.Unspecified {
		have.Reason = r.Reason
	}
	s.Revoked[serial] = have
}

// Missing are the serials that a list or a CRL names and of which no certificate was given, in order.
func (s *Set) Missing() []bulkhead.Serial {
	own, _ := bulkhead.SerialFromBig(s.Authority.SerialNumber)
	self := bytes.Equal(s.Authority.RawIssuer, s.Authority.RawSubject)
	var out []bulkhead.Serial
	for serial := range s.listed {
		if _, ok := s.bySerial[serial]; !ok && (!self || serial != own) {
			out = append(out, serial)
		}
	}
	slices.SortFunc(out, bulkhead.Serial.Compare)
	return out
}

// Finish reports what is missing, but for the serials that somebody knows from elsewhere.
func (s *Set) Finish(known map[bulkhead.Serial]bool) {
	for _, serial := range s.Missing() {
		if where := s.listed[serial]; !known[serial] {
			s.problem(where.File, where.Line, "serial %s is listed and its certificate was not given", serial)
		}
	}
}
