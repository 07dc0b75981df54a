package run

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/publish"
	"bulkhead/publish/origin"
	"bulkhead/publish/s3"
	"bulkhead/signer/signerrpc"
	"bulkhead/status"
	"bulkhead/store/postgres"
	"bulkhead/watch"
)

// Signer says where the issuing keys are used.
type Signer struct {
	// Address is HOST:PORT or unix:PATH of the signer's process; empty where it is this one.
	Address string `yaml:"address,omitempty"`
	// Listen is where the process of the role "signer" answers the others: HOST:PORT or unix:PATH.
	Listen string `yaml:"listen,omitempty"`
	// ListenerNames are the names for which the signer certifies HTTPS listeners of the house, beside loopback.
	ListenerNames []string `yaml:"listener_names,omitempty"`
}

func (s Signer) check() error {
	for key, v := range map[string]string{"signer.address": s.Address, "signer.listen": s.Listen} {
		if v == "" || strings.HasPrefix(v, "unix:/") {
			continue
		}
		if _, _, err := splitListen(v); err != nil {
			return wrong(key, "%s, nor unix:/PATH", err)
		}
	}
	return nil
}

// roleSet is the roles of a process; nil is all of them.
type roleSet map[signerrpc.Role]bool

func rolesOf(list []signerrpc.Role) roleSet {
	if len(list) == 0 {
		return nil
	}
	s := roleSet{}
	for _, r := range list {
		s[r] = true
	}
	return s
}

// all reports that every role is in this process.
func (s roleSet) all() bool { return s == nil }

// has reports whether any of the roles is in this process.
func (s roleSet) has(any ...signerrpc.Role) bool {
	return s == nil || slices.ContainsFunc(any, func(r signerrpc.Role) bool { return s[r] })
}

// needStore: the edge serves what is published and has no database; every other role works on the record.
func (s roleSet) needStore() bool { return s == nil || len(s) > 1 || !s[signerrpc.Edge] }

// door is the signer as the roles of a house see it, in this process or in another.
type door interface {
	enroll.Issuer
	status.Signer
	IssueInfrastructure(ctx context.Context, names []bulkhead.Identifier, csr []byte) (bulkhead.IssuedCertificate, error)
}

// openStoreOfRole opens the record as a role of its own database user: the schema is there, or the role waits for it.
func openStoreOfRole(ctx context.Context, dir string, cfg Config) (Store, error) {
	kind, rest, _ := strings.Cut(cfg.Store, ":")
	if kind != "postgres" {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "store: %q serves one process; roles in processes of their own take PostgreSQL", cfg.Store).WithHint("set store to postgres:FILE, see doc/deployment.md")
	}
	dsn, err := ReadSecret(inDir(dir, rest))
	if err != nil {
		return nil, err
	}
	return postgres.Open(ctx, postgres.Config{DSN: string(dsn), AsIs: true})
}

// objectsKind splits the key objects.
func (c Config) objectsKind() (kind, rest string) {
	kind, rest, _ = strings.Cut(c.Objects, ":")
	return kind, rest
}

func (c Config) checkObjects() error {
	kind, rest := c.objectsKind()
	switch kind {
	case "dir", "s3":
		if rest != "" {
			return nil
		}
	case "http", "https":
		if u, err := url.Parse(c.Objects); err == nil && u.Host != "" {
			return nil
		}
	}
	return wrong("objects", "%q is none of dir:FOLDER, s3:FILE and an http address", c.Objects)
}

// openObjects opens what is published. Only an edge may read from an origin.
func (h *House) openObjects(ctx context.Context, _ seed) error {
	if !h.roles.has(signerrpc.Status, signerrpc.Edge, signerrpc.Enroll, signerrpc.Console, signerrpc.Watch) {
		return nil
	}
	var err error
	if h.objects, h.published, err = openPublished(ctx, h.dir, h.cfg); err == nil && h.objects == nil && h.roles.has(signerrpc.Status) {
		err = wrong("objects", "%s can be read from and not published to; the status role takes dir:FOLDER or s3:FILE", h.cfg.Objects)
	}
	return err
}

// openPublished opens what the configuration names; the store is nil where there is only an origin to read from.
func openPublished(ctx context.Context, dir string, c Config) (publish.Store, publish.Reader, error) {
	kind, rest := c.objectsKind()
	switch kind {
	case "dir":
		d, err := publish.NewDir(inDir(dir, rest))
		if err != nil {
			return nil, nil, err
		}
		return d, d, nil
	case "s3":
		at, err := readBucket(inDir(dir, rest))
		if err != nil {
			return nil, nil, err
		}
		b, err := s3.Open(ctx, at)
		if err != nil {
			return nil, nil, err
		}
		return b, b, nil
	}
	o, err := origin.Open(c.Objects)
	return nil, o, err
}

// bucketFile is the file that "s3:FILE" names.
type bucketFile struct {
	Endpoint      string `yaml:"endpoint"`
	Bucket        string `yaml:"bucket"`
	Prefix        string `yaml:"prefix"`
	Region        string `yaml:"region"`
	AccessKey     string `yaml:"access_key"`
	SecretKeyFile string `yaml:"secret_key_file"`
	Insecure      bool   `yaml:"insecure"`
	CAFile        string `yaml:"ca_file"`
}

// readBucket reads the file; the files that it names are beside it unless they are absolute.
func readBucket(path string) (s3.Config, error) {
	dir := filepath.Dir(path)
	f, err := os.Open(path)
	if err != nil {
		return s3.Config{}, wrong("objects", "%s cannot be read", path)
	}
	defer f.Close()
	var b bucketFile
	dec := yaml.NewDecoder(f)
	dec.KnownFields(true)
	if err := dec.Decode(&b); err != nil {
		return s3.Config{}, wrong("objects", "%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	secret, err := ReadSecret(inDir(dir, b.SecretKeyFile))
	if err != nil {
		return s3.Config{}, err
	}
	c := s3.Config{Endpoint: b.Endpoint, Bucket: b.Bucket, Prefix: b.Prefix, Region: b.Region, AccessKey: b.AccessKey, SecretKey: string(secret), Insecure: b.Insecure}
	if b.CAFile != "" {
		if c.RootsPEM, err = os.ReadFile(inDir(dir, b.CAFile)); err != nil {
			return c, wrong("objects", "%s: ca_file cannot be read", path)
		}
	}
	return c, nil
}

// openDoor finds the signer in its process. Roles that ask nothing of it renew their certificate there.
func (h *House) openDoor(context.Context) error {
	if h.cfg.Signer.Address == "" {
		if h.roles.has(signerrpc.Enroll, signerrpc.Status, signerrpc.Console) {
			return wrong("signer.address", "the signer is not in this process and nothing says where it is")
		}
		return nil
	}
	id, err := loadIdentity(h.dir, h.now)
	if err != nil {
		return err
	}
	roots, err := readPool(filepath.Join(h.dir, trustFile))
	if err != nil {
		return err
	}
	c, err := signerrpc.NewClient(signerrpc.ClientConfig{Address: h.cfg.Signer.Address, Own: id.certificate, Roots: roots})
	if err != nil {
		return err
	}
	id.log = h.log.With(slog.String("role", "identity"))
	h.identity, h.door = id, c
	h.closers = append(h.closers, func() error { c.Close(); return nil })
	return nil
}

// see hands a sighting to the watch, in this process or kept for the one that asks (see sightings).
func (h *House) see(s watch.Sighting) {
	if h.roles.has(signerrpc.Watch) {
		h.watch.See(s)
		return
	}
	h.sightings.add(s)
}
