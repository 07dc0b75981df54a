package profile

import (
	"bytes"
	"crypto/x509"
	"embed"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
)

//go:embed builtin/*.yaml
var builtin embed.FS

// maxFile is far above any sensible profile; it bounds what a hostile file can make the parser do.
const maxFile = 64 << 10

// file is a profile as written. Its keys are the reference of the format.
type file struct {
	Name                 string                    `yaml:"name"`
	Kind                 Kind                      `yaml:"kind"`
	Description          string                    `yaml:"description"`
	Validity             string                    `yaml:"validity"`
	Backdate             string                    `yaml:"backdate"`
	RenewAt              float64                   `yaml:"renew_at"`
	Keys                 []KeyType                 `yaml:"keys"`
	Identifiers          []bulkhead.IdentifierType `yaml:"identifiers"`
	MaxNames             int                       `yaml:"max_names"`
	Wildcard             bool                      `yaml:"wildcard"`
	CommonName           CommonName                `yaml:"common_name"`
	SubjectKeyIdentifier bool                      `yaml:"subject_key_identifier"`
	KeyEncipherment      bool                      `yaml:"key_encipherment"`
	ExtendedKeyUsages    []string                  `yaml:"extended_key_usages"`
	Policies             []string                  `yaml:"policies"`
	DefaultAuthority     bulkhead.AuthorityID      `yaml:"default_authority"`
	ACME                 bool                      `yaml:"acme"`
	Subject              Subject                   `yaml:"subject"`
	CT                   transparency              `yaml:"ct"`
}

// transparency is the block "ct".
type transparency struct {
	Logs int `yaml:"logs"`
}

// Parse reads one profile. A file that is no YAML, has unknown or repeated keys, or holds more than one document is
// KindMalformed; one that contradicts itself is KindInvalidProfile. Both carry a hint.
func Parse(text []byte) (*Profile, error) {
	if len(text) > maxFile {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "profile has %d bytes, at most %d are read", len(text), maxFile).WithHint("give one profile per file")
	}
	f := file{Backdate: "1h", RenewAt: 0.66, MaxNames: 100, CommonName: CommonNameOmit}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		return nil, malformed(err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "more than one YAML document in a profile").WithHint("give one profile per file")
	}
	p, err := f.profile()
	if err != nil {
		return nil, err
	}
	return p, p.check()
}

func malformed(err error) error {
	if errors.Is(err, io.EOF) {
		return bulkhead.NewFault(bulkhead.KindMalformed, "profile is empty").WithHint("start from one of the built-in profiles, for example tls-server.yaml")
	}
	return bulkhead.Faultf(bulkhead.KindMalformed, "profile is not readable: %s", strings.TrimPrefix(err.Error(), "yaml: ")).
		WithHint("unknown keys are errors; the keys are those of the built-in tls-server.yaml").WithCause(err)
}

func (f *file) profile() (*Profile, error) {
	p := &Profile{
		Name: f.Name, Kind: f.Kind, Description: f.Description, RenewAt: f.RenewAt, Keys: f.Keys,
		IdentifierTypes: f.Identifiers, MaxNames: f.MaxNames, Wildcard: f.Wildcard, CommonName: f.CommonName,
		SubjectKeyIdentifier: f.SubjectKeyIdentifier, KeyEncipherment: f.KeyEncipherment,
		DefaultAuthority: f.DefaultAuthority, ACME: f.ACME, Subject: f.Subject, Logs: f.CT.Logs,
	}
	var err error
	if p.Validity, err = parseDuration("validity", f.Validity); err != nil {
		return nil, err
	}
	if p.Backdate, err = parseDuration("backdate", f.Backdate); err != nil {
		return nil, err
	}
	for _, name := range f.ExtendedKeyUsages {
		eku, ok := ekuNames[name]
		if !ok {
			return nil, invalid("extended key usage %q is not offered", name).WithHint("extended_key_usages: server-auth, client-auth, email-protection, code-signing")
		}
		p.EKUs = append(p.EKUs, eku)
	}
	for _, text := range f.Policies {
		oid, err := x509.ParseOID(text)
		if err != nil {
			return nil, invalid("policy %q is not an object identifier", text).WithHint("policies: [2.23.140.1.2.1]")
		}
		p.Policies = append(p.Policies, oid)
	}
	return p, nil
}

// parseDuration reads "47d" (days of 86,400 s, BR 6.3.2) or a Go duration.
func parseDuration(key, text string) (time.Duration, error) {
	fault := invalid("%s %q is not a duration", key, text).WithHint(key + ": 47d, 12h, 90m, …")
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 32)
		if err != nil || n > math.MaxInt64/uint64(24*time.Hour) {
			return 0, fault
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fault
	}
	return d, nil
}

// Builtin returns the profiles that come with the product, by name. Every call makes fresh ones.
func Builtin() []*Profile {
	var list []*Profile
	for _, name := range builtinNames() {
		p, err := Parse(mustRead(name))
		if err != nil {
			panic(fmt.Sprintf("built-in profile %s: %v", name, err)) // a test proves this unreachable
		}
		list = append(list, p)
	}
	return list
}

// Files returns the YAML of the built-in profiles by file name, for a first start to write out.
func Files() map[string][]byte {
	m := make(map[string][]byte)
	for _, name := range builtinNames() {
		m[name] = mustRead(name)
	}
	return m
}

func builtinNames() []string {
	entries, err := builtin.ReadDir("builtin")
	if err != nil {
		panic(err) // the folder is embedded at build time
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

func mustRead(name string) []byte {
	text, err := builtin.ReadFile(path.Join("builtin", name))
	if err != nil {
		panic(err) // the file is embedded at build time
	}
	return text
}
