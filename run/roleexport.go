package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"bulkhead"
	"bulkhead/signer/signerrpc"
	"bulkhead/store/postgres"
)

// ExportOptions is what `bulkhead role export` was called with.
type ExportOptions struct {
	Dir     string // the data directory of the first start, which becomes the signer's
	Role    signerrpc.Role
	Out     string // the role's directory; must not exist
	DSNFile string // connection string of the role's database user; not for an edge
	Signer  string // signer.address for the role
	Objects string // objects for the role; empty keeps the configured one
	Version string
}

// roleFiles are what each role needs of the data directory beside its configuration, its certificate and the trust
// anchor, and nothing more.
var roleFiles = map[signerrpc.Role][]string{
	signerrpc.Enroll:   {profilesDir, firstProfilesFile, externalSecret, headPub},
	signerrpc.Console:  {profilesDir, firstProfilesFile, externalSecret, headPub},
	signerrpc.Status:   {headPub},
	signerrpc.Edge:     {headPub},
	signerrpc.Evidence: {},
	signerrpc.Watch:    {headPub},
}

// moved are what a role takes with it: two processes with one log would be two logs.
var moved = map[signerrpc.Role][]string{signerrpc.Evidence: {evidenceKey, evidenceDir}}

// ExportRole makes the directory with which one role runs elsewhere: its certificate, made here where the signer's keys
// are, and the files that it needs. The house must not be running.
func ExportRole(ctx context.Context, o ExportOptions) (err error) {
	files, ok := roleFiles[o.Role]
	if !ok {
		return bulkhead.Faultf(bulkhead.KindUsage, "role %s has no directory of its own", o.Role).WithHint("the signer runs on the directory of the first start; the other roles are enroll, console, status, edge, evidence and watch")
	}
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(o.Out); !errors.Is(err, fs.ErrNotExist) {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s is there already", o.Out).WithHint("name a directory that does not exist yet")
	}
	release, err := lockDir(o.Dir)
	if err != nil {
		return err
	}
	defer release()
	if err := os.MkdirAll(filepath.Join(o.Out, "trust"), 0o700); err != nil {
		return fmt.Errorf("making the role's directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(o.Out))
		}
	}()
	if err := roleConfig(&cfg, o); err != nil {
		return err
	}
	h, err := OpenWith(ctx, Options{Dir: o.Dir, Config: signerOnly(cfg, o.Dir), Version: o.Version, Roles: []signerrpc.Role{signerrpc.Signer}})
	if err != nil {
		return err
	}
	_, err = h.roleCertificate(ctx, o.Role, o.Out)
	if err = errors.Join(err, h.Close()); err != nil {
		return err
	}
	for _, name := range append([]string{trustFile}, files...) {
		if err := copyTree(filepath.Join(o.Dir, name), filepath.Join(o.Out, name)); err != nil {
			return err
		}
	}
	if err := exportOperators(o.Dir, o.Out); err != nil {
		return err
	}
	text, err := cfg.Marshal()
	if err != nil {
		return fmt.Errorf("configuration: %w", err)
	}
	if err := writeFile(filepath.Join(o.Out, ConfigFile), text, 0o644); err != nil {
		return err
	}
	for _, name := range moved[o.Role] { // last: before it nothing is lost by starting over
		if err := os.Rename(filepath.Join(o.Dir, name), filepath.Join(o.Out, name)); err != nil {
			return fmt.Errorf("moving %s to the role: %w", name, err)
		}
	}
	return syncTree(o.Out)
}

// exportOperators gives a role the operators of the first start, to hold the record against.
func exportOperators(from, to string) error {
	s, err := loadSeed(from)
	if err != nil {
		return err
	}
	body, err := json.MarshalIndent(s.Operators, "", "  ")
	if err != nil {
		return fmt.Errorf("operators of the first start: %w", err)
	}
	return writeFile(filepath.Join(to, firstOperatorsFile), append(body, '\n'), 0o644)
}

// signerOnly is the configuration of the directory as it stands: what was changed for the role is the role's.
func signerOnly(cfg Config, dir string) Config {
	if own, err := LoadConfig(dir); err == nil {
		return own
	}
	return cfg
}

// roleConfig changes the configuration to the role's: where its database user, its signer and its objects are.
func roleConfig(cfg *Config, o ExportOptions) error {
	cfg.Signer = Signer{Address: o.Signer}
	if o.Role != signerrpc.Edge {
		if o.Signer == "" {
			return bulkhead.NewFault(bulkhead.KindUsage, "the role must know where the signer answers").WithHint("--signer HOST:PORT or unix:/PATH")
		}
		dsn, err := ReadSecret(o.DSNFile)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(o.Out, "store.dsn"), append(dsn, '\n'), 0o600); err != nil {
			return err
		}
	}
	cfg.Store = "postgres:store.dsn"
	cfg.KeyPassphraseFile, cfg.KeyRing = "", ""
	if o.Objects != "" {
		cfg.Objects = o.Objects
	} else if kind, rest := cfg.objectsKind(); kind == "dir" && !filepath.IsAbs(rest) {
		abs, err := filepath.Abs(filepath.Join(o.Dir, rest))
		if err != nil {
			return fmt.Errorf("objects: %w", err)
		}
		cfg.Objects = "dir:" + abs
	}
	return cfg.Check()
}

// copyTree copies a file or a folder of files with their modes; what is not there is not needed.
func copyTree(from, to string) error {
	info, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("copying %s: %w", filepath.Base(from), err)
	}
	if !info.IsDir() {
		body, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("copying %s: %w", filepath.Base(from), err)
		}
		return writeFile(to, body, info.Mode().Perm())
	}
	if err := os.MkdirAll(to, info.Mode().Perm()); err != nil {
		return fmt.Errorf("copying %s: %w", filepath.Base(from), err)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return fmt.Errorf("copying %s: %w", filepath.Base(from), err)
	}
	for _, e := range entries {
		if err := copyTree(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// RoleSQL is what the owner of the database runs once, and after each upgrade: the rights of the roles' groups.
func RoleSQL() string { return postgres.RoleSQL() }

// ApplyRoleSQL migrates the database of a data directory and runs RoleSQL there, as the user of its connection string.
func ApplyRoleSQL(ctx context.Context, dir string) error {
	cfg, err := LoadConfig(dir)
	if err != nil {
		return err
	}
	kind, rest, _ := strings.Cut(cfg.Store, ":")
	if kind != "postgres" {
		return bulkhead.Faultf(bulkhead.KindUsage, "store: %q has no users; roles in processes of their own take PostgreSQL", cfg.Store).WithHint("bulkhead up --store postgres:FILE")
	}
	dsn, err := ReadSecret(inDir(dir, rest))
	if err != nil {
		return err
	}
	return postgres.ApplyRoles(ctx, string(dsn))
}
