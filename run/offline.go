package run

import (
	"context"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/keys"
	"bulkhead/pki/lint"
)

// SubordinateRequest is what a root signs for `hierarchy add` and `rotate` when its folder is at hand.
type SubordinateRequest struct {
	DataDir, RootDir string
	PassphraseFile   string
	Name             bulkhead.AuthorityID
	CSR              []byte // PEM
	Shards, Days     int
}

// SignSubordinate holds a ceremony of one step on this machine, outside the server: the root key is opened here and
// nowhere else. It returns the certificate and the chain above it as PEM and leaves the transcript in both folders.
func SignSubordinate(ctx context.Context, r SubordinateRequest) (cert string, chain []string, err error) {
	cfg, err := LoadConfig(r.DataDir)
	if err != nil {
		return "", nil, err
	}
	rc := keys.Config{Dir: r.RootDir, IdentityFile: filepath.Join(r.RootDir, rootIdentity)}
	if r.PassphraseFile != "" {
		if rc.Passphrase, err = ReadSecret(r.PassphraseFile); err != nil {
			return "", nil, err
		}
		rc.IdentityFile = ""
	}
	ring, err := keys.OpenFileRing(rc)
	if err != nil {
		return "", nil, err
	}
	rootPEM, err := os.ReadFile(filepath.Join(r.RootDir, "root.pem"))
	if err != nil {
		return "", nil, bulkhead.Faultf(bulkhead.KindUsage, "%s holds no root.pem", r.RootDir).WithHint("--root-dir: the folder that the first start made").WithCause(err)
	}
	root, _ := pem.Decode(rootPEM)
	csr, _ := pem.Decode(r.CSR)
	if root == nil || csr == nil {
		return "", nil, bulkhead.NewFault(bulkhead.KindMalformed, "root.pem or the certificate request is not PEM")
	}
	uris, err := ring.List(ctx)
	if err != nil || len(uris) != 1 {
		return "", nil, bulkhead.Faultf(bulkhead.KindUsage, "%s does not hold exactly one key", r.RootDir).WithHint("--root-dir: the folder that the first start made").WithCause(err)
	}
	previous, last, err := newestTranscript(r.DataDir)
	if err != nil {
		return "", nil, err
	}
	linter, err := lint.New(lint.Config{})
	if err != nil {
		return "", nil, err
	}
	plan := ceremony.Plan{Title: "issuing authority " + string(r.Name), StatusURL: cfg.StatusURL, Root: rootID,
		Existing: []ceremony.Existing{{ID: rootID, Kind: bulkhead.RootAuthority, Certificate: root.Bytes, KeyURI: uris[0]}},
		Steps: []ceremony.Step{{Issuing: &ceremony.IssuingStep{ID: r.Name, Kind: bulkhead.IssuingAuthority, Parent: rootID,
			Subject: ceremony.Name{CommonName: cfg.Organization + " " + string(r.Name) + " " + cfg.House, Organization: cfg.Organization, Country: cfg.Country},
			Request: ceremony.Request{CSR: csr.Bytes}, Days: r.Days, Shards: r.Shards}}}}
	res, err := ceremony.Execute(ctx, ceremony.Config{Ring: ring, Now: time.Now, Rand: rand.Reader, Who: []string{"bulkhead hierarchy, on this machine"}, Lint: linter, PreviousTranscript: previous}, plan)
	if err != nil {
		return "", nil, err
	}
	if err := writeFile(filepath.Join(r.DataDir, "ceremony", fmt.Sprintf("%04d.json", last+1)), res.Transcript, 0o644); err != nil {
		return "", nil, err
	}
	for _, c := range res.Certificates[0].Chain {
		chain = append(chain, certPEM(c))
	}
	return certPEM(res.Certificates[0].DER), chain, nil
}

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// newestTranscript reads the transcript of the last ceremony, by number.
func newestTranscript(dir string) (body []byte, number int, err error) {
	all, err := filepath.Glob(filepath.Join(dir, "ceremony", "[0-9][0-9][0-9][0-9].json"))
	if err != nil || len(all) == 0 {
		return nil, 0, nil
	}
	sort.Strings(all)
	last := all[len(all)-1]
	if _, err := fmt.Sscanf(filepath.Base(last), "%04d.json", &number); err != nil {
		return nil, 0, fmt.Errorf("transcript %s: %w", last, err)
	}
	body, err = os.ReadFile(last)
	return body, number, err
}

// CheckDir checks the configuration and every profile of a data directory and returns how many profiles there are.
func CheckDir(dir string) (profiles int, err error) {
	if _, err := LoadConfig(dir); err != nil {
		return 0, err
	}
	all, err := loadProfiles(dir)
	return len(all), err
}
