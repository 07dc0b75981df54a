// Package importer reads what another certificate authority leaves behind: openssl's index.txt, certificates in PEM and DER,
// CRLs, and the JSON that OpenBao and Vault print.
//
// Invariant: every line, block and entry of the input is either in the result or a Problem that names its file and line;
// nothing is dropped in silence. A certificate counts only when its signature verifies under the authority's key.
//
// Refuses: CRLs that the authority did not sign, two certificates with one serial, input beyond its limits. It reads
// bytes that it is handed, and knows no record and no clock.
package importer

import (
	"bufio"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"strings"
	"time"

	"bulkhead"
)

// Limits of one input.
const (
	maxLine = 64 << 10
	maxJSON = 64 << 20
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
	Serial bulkhead.Serial
	File   string
	Line   int
}

// Revocation is what a source says of a serial.
type Revocation struct {
	At     time.Time
	Reason bulkhead.Reason
	Source string
}

// Set is all that was read. Make one with New, add input, then Finish.
type Set struct {
	Authority    *x509.Certificate
	Certificates []Certificate
	Revoked      map[bulkhead.Serial]Revocation
	Problems     []Problem

	bySerial map[bulkhead.Serial]int
	listed   map[bulkhead.Serial]Problem // serials that a list names, and where
}

// New begins a set for an authority.
func New(authority *x509.Certificate) *Set {
	return &Set{Authority: authority, Revoked: map[bulkhead.Serial]Revocation{}, bySerial: map[bulkhead.Serial]int{}, listed: map[bulkhead.Serial]Problem{}}
}

func (s *Set) problem(file string, line int, format string, args ...any) {
	s.Problems = append(s.Problems, Problem{File: file, Line: line, Reason: fmt.Sprintf(format, args...)})
}

// File adds a file by what is in it: JSON, PEM with certificates and CRLs, or DER of one of them.
func (s *Set) File(name string, body []byte) {
	trimmed := bytes.TrimSpace(body)
	switch {
	case len(trimmed) == 0:
		s.problem(name, 1, "the file is empty")
	case trimmed[0] == '{' || trimmed[0] == '[':
		s.json(name, trimmed)
	case bytes.Contains(body, []byte("-----BEGIN ")):
		s.pem(name, body)
	default:
		if s.der(name, 1, body) != nil {
			s.problem(name, 1, "neither a certificate, a CRL, PEM nor JSON")
		}
	}
}

func (s *Set) pem(name string, body []byte) {
	line, rest := 1, body
	for {
		block, after := pem.Decode(rest)
		if block == nil {
			if bytes.Contains(rest, []byte("-----BEGIN ")) {
				s.problem(name, line, "a PEM block is damaged")
			}
			return
		}
		used := rest[:len(rest)-len(after)]
		begin := bytes.LastIndex(used, []byte("-----BEGIN "+block.Type))
		at := line + bytes.Count(used[:max(begin, 0)], []byte("\n"))
		if n := bytes.Count(used, []byte("-----BEGIN ")); n > 1 {
			s.problem(name, line, "%d PEM blocks are damaged", n-1)
		}
		line += bytes.Count(used, []byte("\n"))
		rest = after
		switch block.Type {
		case "CERTIFICATE", "TRUSTED CERTIFICATE", "X509 CRL":
			if err := s.der(name, at, block.Bytes); err != nil {
				s.problem(name, at, "%s", err)
			}
		default:
			s.problem(name, at, "a PEM block of type %.60q is neither a certificate nor a CRL", block.Type)
		}
	}
}

// der adds a certificate or a CRL. The error is for bytes that are neither; what is well formed and not taken is a problem.
func (s *Set) der(name string, line int, body []byte) error {
	cert, err := x509.ParseCertificate(body)
	if err == nil {
		s.certificate(name, line, cert)
		return nil
	}
	list, lerr := x509.ParseRevocationList(body)
	if lerr != nil {
		return fmt.Errorf("not a certificate: %w", err)
	}
	s.crl(name, line, list)
	return nil
}

func (s *Set) certificate(name string, line int, c *x509.Certificate) {
	serial, err := bulkhead.SerialFromBig(c.SerialNumber)
	switch {
	case bytes.Equal(c.Raw, s.Authority.Raw):
		return // the authority's own, which the set has
	case err != nil:
		s.problem(name, line, "%s", bulkhead.AsFault(err).Detail)
		return
	case !bytes.Equal(c.RawIssuer, s.Authority.RawSubject):
		s.problem(name, line, "serial %s was issued by %q, not by this authority", serial, c.Issuer)
		return
	}
	if i, ok := s.bySerial[serial]; ok {
		if have := s.Certificates[i]; !bytes.Equal(have.Raw, c.Raw) {
			s.problem(name, line, "serial %s is another certificate in %s, line %d", serial, have.File, have.Line)
		}
		return // the same certificate twice is one
	}
	if err := s.Authority.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		s.problem(name, line, "serial %s: the signature is not this authority's: %s", serial, err)
		return
	}
	s.bySerial[serial] = len(s.Certificates)
	s.Certificates = append(s.Certificates, Certificate{Certificate: c, Serial: serial, File: name, Line: line})
}

func (s *Set) crl(name string, line int, l *x509.RevocationList) {
	if err := l.CheckSignatureFrom(s.Authority); err != nil {
		s.problem(name, line, "the CRL is not this authority's: %s", err)
		return
	}
	for i, e := range l.RevokedCertificateEntries {
		serial, err := bulkhead.SerialFromBig(e.SerialNumber)
		if err != nil {
			s.problem(name, line, "entry %d: %s", i+1, bulkhead.AsFault(err).Detail)
			continue
		}
		s.revoke(serial, Revocation{At: e.RevocationTime.UTC(), Reason: bulkhead.Reason(e.ReasonCode), Source: name}, name, line)
	}
}

// revoke keeps the earliest time; a reason is better than none.
func (s *Set) revoke(serial bulkhead.Serial, r Revocation, name string, line int) {
	if _, ok := s.listed[serial]; !ok {
		s.listed[serial] = Problem{File: name, Line: line}
	}
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

// Index adds openssl's index.txt (ca(1)): status, end, revocation with reason, serial, file name and subject, by tabs.
func (s *Set) Index(name string, r io.Reader) {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 4096), maxLine)
	line := 0
	for in.Scan() {
		line++
		if strings.TrimSpace(in.Text()) == "" {
			continue
		}
		if err := s.indexLine(name, line, in.Text()); err != nil {
			s.problem(name, line, "%s", err)
		}
	}
	if err := in.Err(); err != nil {
		s.problem(name, line+1, "this line and what follows cannot be read: %s", err)
	}
}

func (s *Set) indexLine(name string, line int, text string) error {
	f := strings.Split(strings.TrimSuffix(text, "\r"), "\t")
	if len(f) != 6 {
		return fmt.Errorf("%d fields, 6 are wanted", len(f))
	}
	serial, err := bulkhead.ParseSerial(f[3])
	if err != nil {
		return fmt.Errorf("%s", bulkhead.AsFault(err).Detail)
	}
	if _, err := indexTime(f[1]); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	if before, ok := s.listed[serial]; ok && before.File == name {
		return fmt.Errorf("serial %s stands in line %d already", serial, before.Line)
	}
	switch f[0] {
	case "V", "E":
		if f[2] != "" {
			return fmt.Errorf("it is not revoked and has a revocation")
		}
	case "R":
		r, err := indexRevocation(f[2])
		if err != nil {
			return err
		}
		r.Source = name
		s.revoke(serial, r, name, line)
	default:
		return fmt.Errorf("status %.20q is none of V, R and E", f[0])
	}
	s.listed[serial] = Problem{File: name, Line: line}
	return nil
}

// indexRevocation reads "time[,reason[,more]]"; more is an OID or a time that the reasons of ca(1) carry.
func indexRevocation(text string) (Revocation, error) {
	f := strings.SplitN(text, ",", 3)
	at, err := indexTime(f[0])
	if err != nil {
		return Revocation{}, fmt.Errorf("revocation: %w", err)
	}
	r := Revocation{At: at}
	if len(f) == 1 {
		return r, nil
	}
	switch strings.ToLower(f[1]) {
	case "keytime": // the reasons of ca(1) with a time
		r.Reason = bulkhead.KeyCompromise
	case "cakeytime":
		r.Reason = bulkhead.CACompromise
	case "holdinstruction":
		r.Reason = bulkhead.CertificateHold
	default:
		if r.Reason, err = bulkhead.ParseReason(f[1]); err != nil {
			return r, fmt.Errorf("%s", bulkhead.AsFault(err).Detail)
		}
	}
	return r, nil
}

// indexTime reads UTCTime or GeneralizedTime in text.
func indexTime(text string) (time.Time, error) {
	switch len(text) {
	case 13:
		t, err := time.Parse("060102150405Z", text)
		if err == nil && t.Year() >= 2050 { // RFC 5280 section 4.1.2.5.1
			t = t.AddDate(-100, 0, 0)
		}
		return t, err
	case 15:
		return time.Parse("20060102150405Z", text)
	}
	return time.Time{}, fmt.Errorf("%.40q is not a time", text)
}

// vaultCertificate is what `vault read -format=json pki/cert/SERIAL` prints.
type vaultCertificate struct {
	Data struct {
		Certificate    string   `json:"certificate"`
		RevocationTime int64    `json:"revocation_time"` // UNIX seconds; 0 is not revoked
		Keys           []string `json:"keys"`            // of a list
	} `json:"data"`
}

// json adds a list of serials or certificates of OpenBao or Vault.
func (s *Set) json(name string, body []byte) {
	if len(body) > maxJSON {
		s.problem(name, 1, "more than %d octets of JSON", maxJSON)
		return
	}
	var serials []string
	if body[0] == '[' {
		if err := json.Unmarshal(body, &serials); err != nil {
			s.problem(name, 1, "not a JSON list of serials: %s", err)
			return
		}
		s.serials(name, serials)
		return
	}
	var v vaultCertificate
	if err := json.Unmarshal(body, &v); err != nil {
		s.problem(name, 1, "not JSON of a certificate: %s", err)
		return
	}
	if v.Data.Certificate == "" && len(v.Data.Keys) == 0 {
		s.problem(name, 1, "JSON without data.certificate and data.keys")
		return
	}
	s.serials(name, v.Data.Keys)
	if v.Data.Certificate == "" {
		return
	}
	block, _ := pem.Decode([]byte(v.Data.Certificate))
	if block == nil {
		s.problem(name, 1, "data.certificate is not PEM")
		return
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		s.problem(name, 1, "data.certificate: %s", err)
		return
	}
	s.certificate(name, 1, cert)
	if serial, err := bulkhead.SerialFromBig(cert.SerialNumber); err == nil && v.Data.RevocationTime > 0 {
		s.revoke(serial, Revocation{At: time.Unix(v.Data.RevocationTime, 0).UTC(), Source: name}, name, 1)
	}
}

func (s *Set) serials(name string, list []string) {
	for i, text := range list {
		serial, err := bulkhead.ParseSerial(strings.ReplaceAll(text, "-", ":"))
		if err != nil {
			s.problem(name, 1, "entry %d: %s", i+1, bulkhead.AsFault(err).Detail)
			continue
		}
		if _, ok := s.listed[serial]; !ok {
			s.listed[serial] = Problem{File: name, Line: 1}
		}
	}
}

// Finish reports the serials that a list or a CRL names and of which no certificate was given.
func (s *Set) Finish() {
	own, _ := bulkhead.SerialFromBig(s.Authority.SerialNumber)
	self := bytes.Equal(s.Authority.RawIssuer, s.Authority.RawSubject)
	for serial, where := range s.listed {
		if _, ok := s.bySerial[serial]; ok || self && serial == own {
			continue
		}
		s.problem(where.File, where.Line, "serial %s is listed and its certificate was not given", serial)
	}
}
