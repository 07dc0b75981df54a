package run

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
)

// TestTrust reads anchor sets, and refuses what would make a preview cry wolf.
func TestTrust(t *testing.T) {
	dir := t.TempDir()
	write := func(name, body string) string {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	good := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write("one.pem", "# a comment\n"+good)
	write("two.der", string(der))
	write("broken.pem", good+"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
	write("empty", "")
	sets, err := Trust{AnchorSets: []AnchorSet{{"phones", []string{"one.pem", "two.der"}}, {"desks", []string{"one.pem"}}}}.read(dir)
	if err != nil || len(sets) != 2 || len(sets[0].Certificates) != 2 || len(sets[1].Certificates) != 1 || string(sets[1].Certificates[0]) != string(der) {
		t.Errorf("%v %v", sets, err)
	}
	for name, word := range map[string]string{"broken.pem": "number 2", "empty": "empty", "none": "cannot be read"} {
		_, err := Trust{AnchorSets: []AnchorSet{{"x", []string{name}}}}.read(dir)
		if bulkhead.KindOf(err) != bulkhead.KindUsage || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for text, ok := range map[string]bool{
		"trust: {anchor_sets: [{name: a, files: [x]}, {name: b, files: [x]}]}": true,
		"trust: {anchor_sets: [{name: a, files: [x]}, {name: a, files: [y]}]}": false,
		"trust: {anchor_sets: [{name: a}]}":                                    false,
		"trust: {anchor_sets: [{files: [x]}]}":                                 false,
		"trust: {anchor_sets: [{name: a, file: [x]}]}":                         false,
	} {
		if _, err := ParseConfig([]byte(text)); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}
