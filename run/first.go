package run

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/evidence"
	"bulkhead/keys"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/quorum"
)

// Names inside the data directory.
const (
	identityFile   = "keys.identity" // opens the sealed signing keys
	keysDir        = "keys"
	profilesDir    = "profiles"
	trustFile      = "trust/root.pem"
	seedFile       = "seed.json" // what the first ceremony made, put into the store by every start that finds it missing
	evidenceKey    = "evidence.key"
	evidenceDir    = "evidence"
	objectsDir     = "objects"
	ceremonyDir    = "ceremony" // signed transcripts, numbered
	operatorKey    = "operator/operator-1.key"
	secondOperator = "operator-2.key" // in the root folder
	headKeyName    = "head"
	headPub        = "head.pub" // what edges are configured with
	rootIdentity   = "root.identity"
	completeMark   = "complete"
)

// Names of the authorities of a first start.
const (
	rootID  bulkhead.AuthorityID = "root"
	p256ID  bulkhead.AuthorityID = "issuing-p256"
	rsaID   bulkhead.AuthorityID = "issuing-rsa2048"
	infraID bulkhead.AuthorityID = "infrastructure"
)

// seed is what the first ceremony made and the store must hold. Every start applies what is missing, so a crash in
// between is mended by the ordinary path, on either store.
type seed struct {
	Authorities  []bulkhead.Authority         `json:"authorities"`
	Certificates []bulkhead.IssuedCertificate `json:"certificates"`
	Prepared     []bulkhead.Prepared          `json:"prepared"`
	Operators    []bulkhead.Operator          `json:"operators"`
	Transcript   bulkhead.Hash                `json:"transcript"`
	HeadKeyURI   string                       `json:"head_key_uri"`
}

// RootDir is the folder beside the data directory that a first start fills and nobody needs again.
func RootDir(dir string) string { return filepath.Clean(dir) + "-root" }

func stagingDir(dir string) string { return filepath.Clean(dir) + ".first-start" }

// FirstStart makes a data directory and the root folder beside it. It reports false when the directory is a house
// already. Everything is made in a staging folder and renamed; killed half-way it starts over, or, when all was made,
// only finishes the renames. A passphrase for the root replaces its identity file.
func FirstStart(ctx context.Context, dir string, cfg Config, rootPassphrase []byte) (made bool, err error) {
	if _, err := os.Stat(filepath.Join(dir, ConfigFile)); err == nil {
		return false, os.RemoveAll(stagingDir(dir))
	}
	release, err := lockPlace(ctx, filepath.Dir(filepath.Clean(dir)))
	if err != nil {
		return false, err
	}
	defer release()
	if _, err := os.Stat(filepath.Join(dir, ConfigFile)); err == nil {
		return false, nil // another process made it while this one waited
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return false, bulkhead.Faultf(bulkhead.KindUsage, "%s is not empty and not a data directory of bulkhead", dir).WithHint("bulkhead up --data DIR with a new or empty DIR")
	}
	staging := stagingDir(dir)
	if _, err := os.Stat(filepath.Join(staging, completeMark)); err == nil {
		return true, finish(dir, staging)
	}
	if _, err := os.Stat(RootDir(dir)); err == nil {
		return false, bulkhead.Faultf(bulkhead.KindUsage, "%s is here from an earlier house", RootDir(dir)).WithHint("move it away, it holds a root key; then start again")
	}
	if err := os.RemoveAll(staging); err != nil {
		return false, fmt.Errorf("clearing an interrupted first start: %w", err)
	}
	f := &first{ctx: ctx, data: filepath.Join(staging, "data"), root: filepath.Join(staging, "root"), cfg: cfg, passphrase: rootPassphrase, now: time.Now().UTC().Truncate(time.Second)}
	if err := f.make(); err != nil {
		return false, err
	}
	if err := syncTree(staging); err != nil {
		return false, err
	}
	if err := writeFile(filepath.Join(staging, completeMark), []byte("complete\n"), 0o600); err != nil {
		return false, err
	}
	return true, finish(dir, staging)
}

// finish renames the staged folders into place. Each rename may have happened before a crash.
func finish(dir, staging string) error {
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) { // empty, or FirstStart refused
		return fmt.Errorf("making place for the data directory: %w", err)
	}
	for _, r := range [][2]string{{filepath.Join(staging, "root"), RootDir(dir)}, {filepath.Join(staging, "data"), filepath.Clean(dir)}} {
		if _, err := os.Stat(r[0]); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.Rename(r[0], r[1]); err != nil {
			return fmt.Errorf("moving the first start into place: %w", err)
		}
	}
	if err := syncDir(filepath.Dir(filepath.Clean(dir))); err != nil {
		return err
	}
	return os.RemoveAll(staging)
}

// first makes the folders of a first start.
type first struct {
	ctx        context.Context
	data, root string
	cfg        Config
	passphrase []byte
	now        time.Time
	online     keys.Ring
	seed       seed
}

func (f *first) make() error {
	for _, d := range []string{f.root, f.data, filepath.Join(f.data, keysDir), filepath.Join(f.data, profilesDir), filepath.Join(f.data, "trust"), filepath.Join(f.data, "operator"), filepath.Join(f.data, ceremonyDir), filepath.Join(f.data, "run")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("making %s: %w", filepath.Base(d), err)
		}
	}
	id := make([]byte, 4)
	if _, err := rand.Read(id); err != nil {
		return fmt.Errorf("random name: %w", err)
	}
	f.cfg.House = "bulkhead-" + hex.EncodeToString(id)
	if err := f.cfg.Check(); err != nil {
		return err
	}
	for _, step := range []func() error{f.openRing, f.hierarchy, f.operators, f.files} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (f *first) openRing() error {
	if f.cfg.KeyPassphraseFile == "" {
		if _, err := keys.NewIdentity(filepath.Join(f.data, identityFile)); err != nil {
			return err
		}
	}
	ring, err := openRing(f.data, f.cfg)
	if err == nil {
		_, err = ring.List(f.ctx) // a token that is away is found before anything is made
	}
	f.online = ring
	return err
}

// hierarchy holds the first ceremony: a root, two issuing authorities, one for the house's own listeners, the root's
// CRLs for the year to come and the delegate that answers for its children.
func (f *first) hierarchy() error {
	rc := keys.Config{Dir: f.root, Passphrase: f.passphrase}
	if len(f.passphrase) == 0 {
		rc.IdentityFile = filepath.Join(f.root, rootIdentity)
		if _, err := keys.NewIdentity(rc.IdentityFile); err != nil {
			return err
		}
	}
	rootRing, err := keys.OpenFileRing(rc)
	if err != nil {
		return err
	}
	org := f.cfg.Organization
	name := func(cn string) ceremony.Name {
		return ceremony.Name{CommonName: cn, Organization: org, Country: f.cfg.Country}
	}
	plan := ceremony.Plan{Title: "first start of " + f.cfg.House, StatusURL: f.cfg.StatusURL, Root: rootID, Steps: []ceremony.Step{
		{Root: &ceremony.RootStep{ID: rootID, Subject: name(org + " Root " + f.cfg.House), Algorithm: keys.P384, Days: 20 * 365}},
	}}
	for _, a := range []struct {
		id     bulkhead.AuthorityID
		kind   bulkhead.AuthorityKind
		alg    keys.Algorithm
		cn     string
		days   int
		shards int
	}{
		{p256ID, bulkhead.IssuingAuthority, keys.P256, "Issuing P-256 " + f.cfg.House, 5 * 365, 8},
		{rsaID, bulkhead.IssuingAuthority, keys.RSA2048, "Issuing RSA-2048 " + f.cfg.House, 5 * 365, 8},
		{infraID, bulkhead.InfrastructureAuthority, keys.P256, "Infrastructure " + f.cfg.House, 5 * 365, 1},
	} {
		req, err := ceremony.NewCSR(f.ctx, f.online, string(a.id), name(org+" "+a.cn), a.alg)
		if err != nil {
			return err
		}
		plan.Steps = append(plan.Steps, ceremony.Step{Issuing: &ceremony.IssuingStep{ID: a.id, Kind: a.kind, Parent: rootID,
			Subject: name(org + " " + a.cn), Request: req, Days: a.days, Shards: a.shards}})
	}
	delegate, err := ceremony.NewCSR(f.ctx, f.online, "root-ocsp-1", name(org+" Root OCSP "+f.cfg.House), keys.P256)
	if err != nil {
		return err
	}
	plan.Steps = append(plan.Steps,
		ceremony.Step{Delegate: &ceremony.DelegateStep{Authority: rootID, Subject: name(org + " Root OCSP " + f.cfg.House), Requests: []ceremony.Request{delegate}, TurnoverDays: 365, OverlapDays: 30}},
		ceremony.Step{CRL: &ceremony.CRLStep{Authority: rootID, HorizonDays: 365, TurnoverDays: 90, OverlapDays: 30}},
	)
	linter, err := lint.New(lint.Config{})
	if err != nil {
		return err
	}
	res, err := ceremony.Execute(f.ctx, ceremony.Config{Ring: rootRing, Now: time.Now, Rand: rand.Reader, Who: []string{"bulkhead up, unattended"}, Lint: linter}, plan)
	if err != nil {
		return fmt.Errorf("first ceremony: %w", err)
	}
	f.seed.Authorities, f.seed.Certificates, f.seed.Prepared = res.Authorities, res.Certificates, res.Prepared
	for i := range f.seed.Authorities {
		if f.seed.Authorities[i].Kind == bulkhead.RootAuthority {
			f.seed.Authorities[i].KeyURI = "" // the root's key is in the folder that is carried away
		}
	}
	f.seed.Transcript = bulkhead.Digest(res.Transcript)
	return writeFile(filepath.Join(f.data, ceremonyDir, "0001.json"), res.Transcript, 0o644)
}

// operators makes the two keys of a quorum: one stays, one leaves with the root.
func (f *first) operators() error {
	for i, path := range []string{filepath.Join(f.data, operatorKey), filepath.Join(f.root, secondOperator)} {
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return fmt.Errorf("operator key: %w", err)
		}
		text, err := quorum.MarshalKey(key)
		if err != nil {
			return err
		}
		if err := writeFile(path, text, 0o600); err != nil {
			return err
		}
		f.seed.Operators = append(f.seed.Operators, bulkhead.Operator{Name: fmt.Sprintf("operator-%d", i+1), PublicKey: pub, Roles: []string{"admin"}})
	}
	return nil
}

func (f *first) files() error {
	uri, head, err := f.online.Generate(f.ctx, headKeyName, keys.Ed25519)
	if err != nil {
		return err
	}
	f.seed.HeadKeyURI = uri
	vkey, err := headVerifierKey(head.Public(), f.cfg.headOrigin())
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(f.data, headPub), []byte(vkey+"\n"), 0o644); err != nil {
		return err
	}
	if _, err := evidence.NewKey(filepath.Join(f.data, evidenceKey), f.cfg.evidenceOrigin()); err != nil {
		return err
	}
	if err := evidence.Begin(filepath.Join(f.data, evidenceDir), filepath.Join(f.data, evidenceKey), f.cfg.evidenceOrigin()); err != nil {
		return err
	}
	for name, text := range profile.Files() {
		if err := writeFile(filepath.Join(f.data, profilesDir, name), text, 0o644); err != nil {
			return err
		}
	}
	for _, a := range f.seed.Authorities {
		if a.ID != rootID {
			continue
		}
		root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Certificate})
		if err := errors.Join(writeFile(filepath.Join(f.data, trustFile), root, 0o644), writeFile(filepath.Join(f.root, "root.pem"), root, 0o644)); err != nil {
			return err
		}
		if _, err := x509.ParseCertificate(a.Certificate); err != nil {
			return fmt.Errorf("root certificate: %w", err)
		}
	}
	body, err := json.MarshalIndent(f.seed, "", "  ")
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	if err := writeFile(filepath.Join(f.data, seedFile), body, 0o600); err != nil {
		return err
	}
	text, err := f.cfg.Marshal()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	return writeFile(filepath.Join(f.data, ConfigFile), text, 0o644)
}
