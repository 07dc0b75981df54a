package run

import (
	"context"
	"crypto/rand"
	"crypto/x509"
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
	"bulkhead/pki/profile"
)

// SubordinateRequest is what a root signs for `hierarchy add` and `rotate` when its folder is at hand.
type SubordinateRequest struct {
	DataDir, RootDir string
	PassphraseFile   string
	Name             bulkhead.AuthorityID
	CSR              []byte // PEM
	Shards, Days     int
	Permit, Exclude  []string // name constraints, see CheckConstraints; empty limits nothing
}

// offlineRoot is an opened root folder.
type offlineRoot struct {
	ring        keys.Ring
	uri         string // of its one key
	certificate []byte // DER
}

// CheckRoot opens a root folder and its key, so that a wrong folder or passphrase is found before anything is asked of
// the server.
func CheckRoot(ctx context.Context, dir, passphraseFile string) error {
	o, err := openRoot(ctx, dir, passphraseFile)
	if err == nil {
		_, err = o.ring.Open(ctx, o.uri)
	}
	return err
}

// CheckConstraints says whether usage and name constraints of a new authority are understood: address ranges, mailboxes,
// domains (for usage smime: mail hosts).
func CheckConstraints(usage string, permit, exclude []string) error {
	u, err := profile.ParseUsage(usage)
	if err != nil {
		return err
	}
	_, err = profile.ParseConstraints(u, permit, exclude)
	return err
}

func openRoot(ctx context.Context, dir, passphraseFile string) (o offlineRoot, err error) {
	const hint = "--root-dir: the folder that the first start made"
	text, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		return o, bulkhead.Faultf(bulkhead.KindUsage, "%s holds no root.pem", dir).WithHint(hint).WithCause(err)
	}
	root, _ := pem.Decode(text)
	if root == nil {
		return o, bulkhead.Faultf(bulkhead.KindMalformed, "%s is not PEM", filepath.Join(dir, "root.pem")).WithHint(hint)
	}
	c := keys.Config{Dir: dir, IdentityFile: filepath.Join(dir, rootIdentity)}
	if passphraseFile != "" {
		if c.Passphrase, err = ReadSecret(passphraseFile); err != nil {
			return o, err
		}
		c.IdentityFile = ""
	}
	ring, err := keys.OpenFileRing(c)
	if err != nil {
		return o, err
	}
	uris, err := ring.List(ctx)
	if err != nil || len(uris) != 1 {
		return o, bulkhead.Faultf(bulkhead.KindUsage, "%s does not hold exactly one key", dir).WithHint(hint).WithCause(err)
	}
	return offlineRoot{ring, uris[0], root.Bytes}, nil
}

// SignSubordinate holds a ceremony of one step on this machine, outside the server: the root key is opened here and
// nowhere else. It returns the certificate and the chain above it as PEM and leaves the transcript in both folders.
func SignSubordinate(ctx context.Context, r SubordinateRequest) (cert string, chain []string, err error) {
	cfg, err := LoadConfig(r.DataDir)
	if err != nil {
		return "", nil, err
	}
	o, err := openRoot(ctx, r.RootDir, r.PassphraseFile)
	if err != nil {
		return "", nil, err
	}
	csr, _ := pem.Decode(r.CSR)
	if csr == nil {
		return "", nil, bulkhead.NewFault(bulkhead.KindMalformed, "the certificate request is not PEM")
	}
	usage, err := ceremony.RequestedUsage(csr.Bytes)
	if err != nil {
		return "", nil, err
	}
	names, err := profile.ParseConstraints(usage, r.Permit, r.Exclude)
	if err != nil {
		return "", nil, err
	}
	previous, last, err := newestTranscript(r.DataDir, o.certificate)
	if err != nil {
		return "", nil, err
	}
	linter, err := lint.New(lint.Config{})
	if err != nil {
		return "", nil, err
	}
	plan := ceremony.Plan{Title: "issuing authority " + string(r.Name), StatusURL: cfg.StatusURL, Root: rootID,
		Existing: []ceremony.Existing{{ID: rootID, Kind: bulkhead.RootAuthority, Certificate: o.certificate, KeyURI: o.uri}},
		Steps: []ceremony.Step{{Issuing: &ceremony.IssuingStep{ID: r.Name, Kind: bulkhead.IssuingAuthority, Parent: rootID,
			Subject: ceremony.Name{CommonName: cfg.Organization + " " + string(r.Name) + " " + cfg.House, Organization: cfg.Organization, Country: cfg.Country},
			Request: ceremony.Request{CSR: csr.Bytes}, Days: r.Days, Shards: r.Shards, Usage: usage, Names: names}}}}
	res, err := ceremony.Execute(ctx, ceremony.Config{Ring: o.ring, Now: time.Now, Rand: rand.Reader, Who: []string{"bulkhead hierarchy, on this machine"}, Lint: linter, PreviousTranscript: previous}, plan)
	if err != nil {
		return "", nil, err
	}
	if err := writeFile(filepath.Join(r.DataDir, ceremonyDir, fmt.Sprintf("%04d.json", last+1)), res.Transcript, 0o644); err != nil {
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

// transcriptFiles are the transcripts in the data directory, the oldest first, and the highest number.
func transcriptFiles(dir string) (files []string, last int, err error) {
	files, err = filepath.Glob(filepath.Join(dir, ceremonyDir, "[0-9][0-9][0-9][0-9].json"))
	if err != nil || len(files) == 0 {
		return nil, 0, err
	}
	sort.Strings(files)
	if _, err := fmt.Sscanf(filepath.Base(files[len(files)-1]), "%04d.json", &last); err != nil {
		return nil, 0, fmt.Errorf("transcript %s: %w", files[len(files)-1], err)
	}
	return files, last, nil
}

// newestTranscript reads the transcript of the last ceremony under a root; number is the highest of any root's.
func newestTranscript(dir string, root []byte) (body []byte, number int, err error) {
	files, number, err := transcriptFiles(dir)
	if err != nil {
		return nil, 0, err
	}
	cert, err := x509.ParseCertificate(root)
	if err != nil {
		return nil, 0, fmt.Errorf("root certificate: %w", err)
	}
	for i := len(files) - 1; i >= 0; i-- {
		body, err := os.ReadFile(files[i])
		if err != nil {
			return nil, 0, fmt.Errorf("transcript: %w", err)
		}
		if _, err := ceremony.VerifyTranscript(body, cert); err == nil {
			return body, number, nil
		}
	}
	return nil, number, nil
}

// CheckDir checks the configuration and every profile of a data directory and returns how many profiles there are.
func CheckDir(dir string) (profiles int, err error) {
	if _, err := LoadConfig(dir); err != nil {
		return 0, err
	}
	all, err := readProfileFiles(dir)
	return len(all), err
}
