package report

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"bulkhead"
)

// Columns of the appendix, in the order that the guidelines fix. What a house adds comes to the right of them.
var Columns = []string{"Precertificate SHA-256 hash", "Certificate SHA-256 hash", "Subject", "Issuer", "Not before", "Not after", "Serial #", "dNSNames", "Is revoked?", "Revocation date", "Revocation reason"}

// ListAt is from how many certificates on a list of fingerprints stands in place of the table.
const ListAt = 10_000

// Revocation is what the appendix says of a certificate's revocation.
type Revocation struct {
	State  string // Yes, Planned, Delayed, N/A
	At     time.Time
	Reason bulkhead.Reason
}

// Row makes the row of one certificate from its own octets; precertificate may be nil.
func Row(precertificate, der []byte, r Revocation) ([]string, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("report: a certificate of the appendix: %w", err)
	}
	pre := "N/A"
	if len(precertificate) > 0 {
		pre = fingerprint(precertificate)
	}
	date, reason := "N/A", "N/A"
	if !r.At.IsZero() {
		date = r.At.UTC().Format(time.RFC3339)
	}
	if r.State != "N/A" {
		reason = r.Reason.String()
	}
	return []string{pre, fingerprint(der), c.Subject.String(), c.Issuer.String(), c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339),
		hex.EncodeToString(c.SerialNumber.Bytes()), strings.Join(c.DNSNames, " "), r.State, date, reason}, nil
}

func fingerprint(der []byte) string {
	d := sha256.Sum256(der)
	return strings.ToUpper(hex.EncodeToString(d[:]))
}

// CheckRow holds a row against the octets of the certificate that it speaks of. What DER cannot tell (the last three
// columns) is checked for its words only.
func CheckRow(row []string, precertificate, der []byte) error {
	if len(row) < len(Columns) {
		return fmt.Errorf("report: a row of %d columns, not %d", len(row), len(Columns))
	}
	want, err := Row(precertificate, der, Revocation{State: "N/A"})
	if err != nil {
		return err
	}
	for i := range 8 {
		if row[i] != want[i] {
			return fmt.Errorf("report: %s is %q, the certificate says %q", Columns[i], row[i], want[i])
		}
	}
	switch row[8] {
	case "Yes", "Planned", "Delayed", "N/A":
	default:
		return fmt.Errorf("report: %s is %q", Columns[8], row[8])
	}
	if row[9] != "N/A" {
		if _, err := time.Parse(time.RFC3339, row[9]); err != nil {
			return fmt.Errorf("report: %s is %q", Columns[9], row[9])
		}
	}
	if row[10] != "N/A" {
		if _, err := bulkhead.ParseReason(row[10]); err != nil {
			return fmt.Errorf("report: %s is %q", Columns[10], row[10])
		}
	}
	return nil
}

// Safe keeps a spreadsheet from taking a name for a formula: subjects are chosen by strangers. Names as RFC 4514 and
// RFC 5890 have them begin with none of these signs.
func Safe(row []string) []string {
	out := make([]string, len(row))
	for i, v := range row {
		if v != "" && strings.ContainsRune("=+-@\t\r", rune(v[0])) {
			v = "'" + v
		}
		out[i] = v
	}
	return out
}

// ReadAppendix reads a table back and refuses another header.
func ReadAppendix(r io.Reader) ([][]string, error) {
	c := csv.NewReader(r)
	all, err := c.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("report: the appendix: %w", err)
	}
	if len(all) == 0 || len(all[0]) < len(Columns) {
		return nil, errors.New("report: the appendix has no header")
	}
	for i, name := range Columns {
		if all[0][i] != name {
			return nil, fmt.Errorf("report: column %d is %q, not %q", i+1, all[0][i], name)
		}
	}
	for _, row := range all[1:] {
		for i, v := range row {
			if len(v) > 1 && v[0] == '\'' && strings.ContainsRune("=+-@\t\r", rune(v[1])) {
				row[i] = v[1:]
			}
		}
	}
	return all[1:], nil
}

// ReadAppendixBytes is ReadAppendix of octets.
func ReadAppendixBytes(p []byte) ([][]string, error) { return ReadAppendix(bytes.NewReader(p)) }

// policyTypes are the CA/Browser Forum's reserved policy OIDs (BR 7.1.6.1).
var policyTypes = map[string]string{"2.23.140.1.2.1": "DV", "2.23.140.1.2.2": "OV", "2.23.140.1.2.3": "IV", "2.23.140.1.1": "EV"}

// Type is DV, IV, OV or EV by the reserved policy OIDs of a certificate, "other" for none of them.
func Type(der []byte) string {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return "other"
	}
	for _, p := range c.PolicyIdentifiers {
		if t, ok := policyTypes[p.String()]; ok {
			return t
		}
	}
	return "other"
}
