package importer

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"time"

	"bulkhead"
)

// maxLine bounds a line of index.txt.
const maxLine = 64 << 10

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
