package run

import (
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/watch/forged"
)

// ForgedReport is what a demonstration of forged OCSP responses came to.
type ForgedReport struct {
	Dir     string         `json:"dir,omitempty"` // where the files are kept
	OpenSSL string         `json:"openssl"`       // version, or why it was not asked
	Cases   []ForgedResult `json:"cases"`
	Sound   bool           `json:"sound"` // our check believes the lawful responder and nobody else
}

// ForgedResult is one case.
type ForgedResult struct {
	Case    string `json:"case"`
	Signer  string `json:"signer"`
	Ours    string `json:"ours"`    // accepted, or why not
	OpenSSL string `json:"openssl"` // accepted, refused, not asked
	Verdict string `json:"verdict"`
}

// openSSLTimeout bounds one call of the program.
const openSSLTimeout = 10 * time.Second

// ForgedOCSP makes the responses of 2020, checks each with our own check and, where it is on the PATH, with OpenSSL. keep is
// a folder that does not exist yet and gets the files; "" keeps nothing.
func ForgedOCSP(ctx context.Context, keep string, now time.Time) (ForgedReport, error) {
	s, err := forged.Make(rand.Reader, now, 24*time.Hour)
	if err != nil {
		return ForgedReport{}, err
	}
	dir := keep
	if keep == "" {
		if dir, err = os.MkdirTemp("", "bulkhead-demo-"); err != nil {
			return ForgedReport{}, fmt.Errorf("demo: %w", err)
		}
		defer os.RemoveAll(dir)
	} else if err := os.Mkdir(dir, 0o755); err != nil {
		return ForgedReport{}, bulkhead.Faultf(bulkhead.KindUsage, "the folder %s cannot be made", dir).WithHint("name a folder that does not exist yet").WithCause(err)
	}
	if err := writeForged(dir, s); err != nil {
		return ForgedReport{}, err
	}
	r := ForgedReport{Dir: keep, Sound: true, OpenSSL: "not on the PATH: nobody else was asked"}
	program, lookErr := exec.LookPath("openssl")
	if lookErr == nil {
		out, _, err := openSSL(ctx, program, "version")
		if r.OpenSSL = strings.TrimSpace(out); err != nil {
			r.OpenSSL, lookErr = "it does not run: nobody else was asked", err
		}
	}
	for _, c := range s.Cases {
		x := ForgedResult{Case: c.Name, Signer: c.Signer, Ours: "accepted", OpenSSL: "not asked"}
		checked := s.Check(c, now)
		if checked != nil {
			x.Ours = "refused: " + bulkhead.AsFault(checked).Detail
		}
		other := false
		if lookErr == nil {
			if other, err = openSSLBelieves(ctx, program, dir, c.Name, s.Serial); err != nil {
				return r, err
			}
			x.OpenSSL = map[bool]string{true: "accepted", false: "refused"}[other]
		}
		x.Verdict = forged.Verdict(c, checked == nil, lookErr == nil, other)
		r.Sound = r.Sound && (checked == nil) == c.Lawful
		r.Cases = append(r.Cases, x)
	}
	return r, nil
}

func writeForged(dir string, s forged.Set) error {
	files := map[string][]byte{"root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Root.Raw}),
		"sibling-a.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Sibling.Raw})}
	for _, c := range s.Cases {
		files[c.Name+".der"] = c.Response
	}
	for name, body := range files {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
	}
	return nil
}

// openSSLBelieves asks a real OpenSSL, as a relying party that trusts the root would.
func openSSLBelieves(ctx context.Context, program, dir, name string, serial bulkhead.Serial) (bool, error) {
	root := filepath.Join(dir, "root.pem")
	out, ran, err := openSSL(ctx, program, "ocsp", "-respin", filepath.Join(dir, name+".der"), "-CAfile", root, "-issuer", root, "-serial", "0x"+serial.String())
	if !ran {
		return false, bulkhead.NewFault(bulkhead.KindUnavailable, "openssl did not run").WithHint("openssl version").WithCause(err)
	}
	return strings.Contains(out, "Response verify OK"), nil
}

// openSSL runs the program; ran is false when it did not come to an end of its own.
func openSSL(ctx context.Context, program string, args ...string) (out string, ran bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, openSSLTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	body, err := cmd.CombinedOutput()
	return string(body), cmd.ProcessState != nil && cmd.ProcessState.Exited(), err
}
