// Package run composes the compartments into roles and runs them: all of them in one process for `bulkhead up`.
//
// Purpose: one documented configuration, one first start, one way to open a house, its listeners, its self-diagnosis.
//
// Invariant: a first start is staged and renamed, so a data directory is either absent or whole; every later start
// takes the same path; ready.json exists only while every role answers.
//
// Refuses: a data directory that is not ours, a second process on it, flags that contradict what is stored, unknown
// keys in the configuration, a status URL that no relying party could dial.
package run

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/edge"
	"bulkhead/enroll"
	"bulkhead/pki/policy"
	"bulkhead/retention"
	"bulkhead/status/verifiers"
)

// ConfigFile is the configuration's name inside the data directory.
const ConfigFile = "bulkhead.yaml"

// Config is bulkhead.yaml. Every key has a default; unknown keys are errors.
type Config struct {
	// House names this house in the evidence log and the status heads. Made at first start; never change it.
	House string `yaml:"house"`
	// Organization is the O of the authorities' names, chosen at first start.
	Organization string `yaml:"organization"`
	// Country is the C of the authorities' names, two letters of ISO 3166-1, chosen at first start.
	Country string `yaml:"country"`

	// Listen is the HTTPS listener: ACME, API.
	Listen string `yaml:"listen"`
	// StatusListen is the plain HTTP listener: OCSP, CRL, authority certificates.
	StatusListen string `yaml:"status_listen"`
	// MetricsListen is the listener for /metrics and health.
	MetricsListen string `yaml:"metrics_listen"`
	// StatusURL is baked into every certificate (CDP and AIA). A change touches new certificates only.
	StatusURL string `yaml:"status_url"`
	// ExternalURL is how clients reach the HTTPS listener, when that is not its own address.
	ExternalURL string `yaml:"external_url,omitempty"`

	// Store is "sqlite:FILE", relative to the data directory, or "postgres:FILE" where FILE holds the connection
	// string, so that a password is in no argument and not in this file.
	Store string `yaml:"store"`
	// Objects is where the status service publishes and edges read: "dir:FOLDER", relative to the data directory; "s3:FILE", where
	// FILE says which bucket; or, for an edge alone, "http://…" or "https://…", a web server or a CDN over either.
	Objects string `yaml:"objects"`
	// Signer says where the issuing keys are used when roles run in processes of their own (bulkhead run).
	Signer Signer `yaml:"signer,omitempty"`
	// KeyPassphraseFile replaces keys.identity as what opens the key files; empty uses the identity file.
	KeyPassphraseFile string `yaml:"key_passphrase_file,omitempty"`
	// KeyRing is the PKCS#11 token on which keys are made: "pkcs11:token=NAME?module-path=/LIB&pin-source=/FILE", the PIN in a
	// file of mode 600. Empty makes sealed files. The key of the status head is Ed25519 and always a sealed file.
	KeyRing string `yaml:"key_ring,omitempty"`

	// WeakKeyLists are files with hashes of known weak keys (the Debian lists of CVE-2008-0166 and the like): openssl-blacklist
	// text, 120-bit or full SHA-256 hex, a JSON array of those, or badkeys' binary blocklist.dat. None is shipped.
	WeakKeyLists []string `yaml:"weak_key_lists,omitempty"`

	// ValidateHTTPPort and ValidateTLSPort are dialled by http-01 and tls-alpn-01; other than 80 and 443 only for tests
	// and private networks (RFC 8555 section 8.3, RFC 8737 section 3).
	ValidateHTTPPort int `yaml:"validate_http_port"`
	ValidateTLSPort  int `yaml:"validate_tls_port"`
	// Resolver is HOST:PORT of a DNS server; empty uses the system's.
	Resolver string `yaml:"resolver,omitempty"`
	// PrivateTargets lets validation dial loopback and private addresses. The embedded default allows it and says so.
	PrivateTargets bool `yaml:"private_targets"`
	// OwnNames are served on an operator's word: names, suffixes as "*.test", address ranges.
	OwnNames []string `yaml:"own_names"`
	// HighValueNames are suffixes ("example.com" is itself and everything below) for which an order takes a second person:
	// two operators (bulkhead partner approve), or another person at the registration partner that brought it.
	HighValueNames []string `yaml:"high_value_names,omitempty"`

	// DefaultProfile serves orders that name none.
	DefaultProfile string `yaml:"default_profile"`
	// DefaultAuthority issues profiles that name none.
	DefaultAuthority bulkhead.AuthorityID `yaml:"default_authority"`

	// ACME is what the ACME directory says of this house.
	ACME ACME `yaml:"acme"`
	// RateLimits bound what ACME clients may ask for; the embedded default has none.
	RateLimits RateLimits `yaml:"rate_limits"`
	// Perspectives look at names from elsewhere (BR 3.2.2.9): name, url, rir, token_file and certificate_file of each.
	// None means that this process alone looks. Own names are not corroborated.
	Perspectives []Perspective `yaml:"perspectives,omitempty"`
	// Status is what the status service promises.
	Status Status `yaml:"status"`
	// Trust is who trusts what, for the previews of changes.
	Trust Trust `yaml:"trust,omitempty"`
	// Caches are what stands between the edges and the clients: for bulkhead caches.
	Caches Caches `yaml:"caches"`
	// ExpiryNotices tell people that a certificate ends soon and was not replaced; off until a receiver is set. A threshold
	// counts for certificates that live at least three times as long.
	ExpiryNotices ExpiryNotices `yaml:"expiry_notices"`
	// Watch is how the house looks at itself from outside, and whom its alarms go to.
	Watch Watch `yaml:"watch"`
	// Witnesses cosign the checkpoints of the evidence log, so that this house cannot rewrite it unseen. None is built in.
	Witnesses Witnesses `yaml:"witnesses,omitempty"`
	// Retention is how long after their end certificates and what belongs to them stay before bulkhead prune may delete
	// them: 730d at least (BR 5.4.3, 5.5.2). Evidence is never deleted.
	Retention Duration `yaml:"retention"`
	// Incident is the desk for the bad day: who is on call, what is replaced first, how much fits into an hour.
	Incident Incident `yaml:"incident"`
	// SignIn is how operators sign in with a browser, at /signin/
	SignIn SignIn `yaml:"sign_in"`
	// Analyser is the public page at /check/
	Analyser Check `yaml:"check"`
	// CT names the logs to which profiles with "ct" submit precertificates. None is built in.
	CT CT `yaml:"ct,omitempty"`
	// Log is how the diagnostic log is written. Evidence is elsewhere.
	Log Log `yaml:"log"`
}

// ACME is the directory's meta object (RFC 8555 section 7.1.1).
type ACME struct {
	// TermsOfService is a URL that new accounts must agree to; empty asks for no agreement.
	TermsOfService string `yaml:"terms_of_service,omitempty"`
	// Website is a URL for people who want to know about this house.
	Website string `yaml:"website,omitempty"`
	// CAAIdentities are the names by which CAA records permit this house (RFC 8659 section 4.2).
	CAAIdentities []string `yaml:"caa_identities"`
	// SharedNonces makes nonces good at every process on the same record, at the price of one write for each request;
	// for several HTTPS listeners behind one address.
	SharedNonces bool `yaml:"shared_nonces"`
	// ExternalAccountRequired refuses new accounts without an external account key (bulkhead eab add).
	ExternalAccountRequired bool `yaml:"external_account_required"`
}

// Status sets what the status service promises.
type Status struct {
	// AnswerValidity of OCSP answers: 8 h to 10 d (BR 4.9.9).
	AnswerValidity Duration `yaml:"answer_validity"`
	// CRLValidity: at most 10 d (BR 7.2).
	CRLValidity Duration `yaml:"crl_validity"`
	// Live signs OCSP answers to single requests (nonces, several certificates, signed "unknown") with a delegate of this process's edge.
	// For private hierarchies: a stolen edge can then lie about status until its delegate ends, 24 hours at most.
	Live bool `yaml:"live"`
	// MaxCertIDs is how many certificates one request may ask for with live: 1 to 256.
	MaxCertIDs int `yaml:"max_cert_ids"`
	// OnePerson is the largest change that one person may make public.
	OnePerson int `yaml:"one_person"`
	// Verifiers are the foreign programs that look at a change of status: openssl, gnutls, or none alone. Above one_person
	// they look at the staged copy before anything is public, else afterwards. Unset: those that are installed.
	Verifiers []string `yaml:"verifiers,omitempty"`
}

// CT is certificate transparency (RFC 6962).
type CT struct {
	// Logs are those whose timestamps count: two operators at least, one log that is not tiled.
	Logs []CTLog `yaml:"logs,omitempty"`
	// AllowPrivate lets logs be on loopback and private addresses and speak plain http: for a log of the house's own.
	AllowPrivate bool `yaml:"allow_private,omitempty"`
	// Monitor lists static-ct-api logs that the watch role reads: a certificate there that an authority of this house signed
	// and the record does not know is alarm D2 and a finding of bulkhead audit prove.
	Monitor []CTMonitor `yaml:"monitor,omitempty"`
	// MonitorEvery is the time between two rounds; 0 means 10m.
	MonitorEvery Duration `yaml:"monitor_every,omitempty"`
}

// CTLog is one log.
type CTLog struct {
	// Name of the log, for people.
	Name string `yaml:"name"`
	// URL is the submission prefix of the operator's list.
	URL string `yaml:"url"`
	// Key is the log's public key: DER SubjectPublicKeyInfo, base64, as in the lists of logs.
	Key string `yaml:"key"`
	// Operator of the log; timestamps come from two different ones.
	Operator string `yaml:"operator"`
	// From and Until bound the notAfter of certificates that the log takes, as 2027-01-01; empty for no bound.
	From  string `yaml:"from,omitempty"`
	Until string `yaml:"until,omitempty"`
	// Tiled says that it is a static-ct-api log.
	Tiled bool `yaml:"tiled,omitempty"`
}

// Log says how the diagnostic log is written. Evidence is elsewhere.
type Log struct {
	// Level is debug, info, warn or error.
	Level string `yaml:"level"`
	// Format is text or json.
	Format string `yaml:"format"`
}

// Duration is time.Duration with a YAML form like "36h" or "7d".
type Duration time.Duration

// UnmarshalYAML reads "36h", "90m" or "7d".
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := ParseDuration(n.Value)
	*d = Duration(v)
	return err
}

// MarshalYAML writes whole days as days.
func (d Duration) MarshalYAML() (any, error) {
	if t := time.Duration(d); t%(24*time.Hour) == 0 && t > 0 {
		return strconv.Itoa(int(t/(24*time.Hour))) + "d", nil
	}
	return time.Duration(d).String(), nil
}

// ParseDuration is time.ParseDuration with whole days.
func ParseDuration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n <= 36500 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	t, err := time.ParseDuration(text)
	if err != nil {
		return 0, bulkhead.Faultf(bulkhead.KindUsage, "%q is not a duration", text).WithHint("write 36h, 90m or 7d")
	}
	return t, nil
}

// headOrigin and evidenceOrigin name the house's two signed logs, and the keys that sign them.
func (c Config) headOrigin() string     { return c.House + "/status" }
func (c Config) evidenceOrigin() string { return c.House + "/evidence" }

// DefaultConfig is what `bulkhead up` starts with.
func DefaultConfig() Config {
	return Config{
		Organization: "Bulkhead", Country: "JP",
		Listen: "127.0.0.1:14000", StatusListen: "127.0.0.1:14080", MetricsListen: "127.0.0.1:14090",
		StatusURL:        "http://127.0.0.1:14080",
		Store:            "sqlite:bulkhead.db",
		Objects:          "dir:" + objectsDir,
		ValidateHTTPPort: 80, ValidateTLSPort: 443, PrivateTargets: true,
		OwnNames:       []string{"localhost", "*.localhost", "*.test", "*.internal", "127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"},
		DefaultProfile: "tls-server", DefaultAuthority: "issuing-p256",
		ACME:          ACME{CAAIdentities: []string{"bulkhead.internal"}},
		RateLimits:    defaultRateLimits(),
		Status:        Status{AnswerValidity: Duration(24 * time.Hour), CRLValidity: Duration(7 * 24 * time.Hour), OnePerson: 10, MaxCertIDs: edge.DefaultMaxCertIDs},
		Caches:        Caches{Timeout: Duration(10 * time.Second)},
		ExpiryNotices: defaultExpiryNotices(),
		Incident:      defaultIncident(),
		Analyser:      defaultCheck(),
		SignIn:        defaultSignIn(),
		Watch:         defaultWatch(),
		Retention:     Duration(retention.Least),
		Log:           Log{Level: "info", Format: "text"},
	}
}

// ParseConfig reads bulkhead.yaml over the defaults, strictly.
func ParseConfig(text []byte) (Config, error) {
	c := DefaultConfig()
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return c, bulkhead.NewFault(bulkhead.KindUsage, ConfigFile+": "+strings.TrimPrefix(err.Error(), "yaml: ")).WithHint("bulkhead config check").WithCause(err)
	}
	return c, c.Check()
}

// LoadConfig reads the configuration of a data directory; KindNotFound when there is none.
func LoadConfig(dir string) (Config, error) {
	text, err := os.ReadFile(filepath.Join(dir, ConfigFile))
	if errors.Is(err, os.ErrNotExist) {
		return Config{}, bulkhead.Faultf(bulkhead.KindNotFound, "%s is not a data directory of bulkhead", dir).WithHint("bulkhead up --data " + dir)
	}
	if err != nil {
		return Config{}, fmt.Errorf("reading the configuration: %w", err)
	}
	return ParseConfig(text)
}

func wrong(key, format string, args ...any) error {
	return bulkhead.Faultf(bulkhead.KindUsage, key+": "+format, args...).WithHint("set " + key + " in " + ConfigFile + " or by its flag, then: bulkhead config check")
}

// Check verifies every value in one place.
func (c Config) Check() error {
	for key, addr := range map[string]string{"listen": c.Listen, "status_listen": c.StatusListen, "metrics_listen": c.MetricsListen} {
		if _, _, err := splitListen(addr); err != nil {
			return wrong(key, "%s", err)
		}
	}
	if err := checkStatusURL(c.StatusURL); err != nil {
		return err
	}
	if len(c.Country) != 2 || strings.ToUpper(c.Country) != c.Country || c.Organization == "" {
		return wrong("country", "organization %q and country %q name no authority: a name and two capital letters are wanted", c.Organization, c.Country)
	}
	if c.ExternalURL != "" {
		if u, err := url.Parse(c.ExternalURL); err != nil || u.Scheme != "https" || u.Host == "" {
			return wrong("external_url", "%q is not an https URL", c.ExternalURL)
		}
	}
	if kind, rest, _ := strings.Cut(c.Store, ":"); kind != "sqlite" && kind != "postgres" || rest == "" {
		return wrong("store", "%q is neither sqlite:FILE nor postgres:FILE", c.Store)
	}
	if err := errors.Join(c.checkObjects(), c.Signer.check()); err != nil {
		return err
	}
	if err := c.checkKeyRing(); err != nil {
		return err
	}
	for key, p := range map[string]int{"validate_http_port": c.ValidateHTTPPort, "validate_tls_port": c.ValidateTLSPort} {
		if p < 1 || p > 65535 {
			return wrong(key, "%d is not a port", p)
		}
	}
	if c.Resolver != "" {
		if _, _, err := net.SplitHostPort(c.Resolver); err != nil {
			return wrong("resolver", "%q is not HOST:PORT", c.Resolver)
		}
	}
	if _, err := enroll.ParseNameSet(c.OwnNames...); err != nil {
		return wrong("own_names", "%s", bulkhead.AsFault(err).Detail)
	}
	for _, n := range c.HighValueNames {
		if id := (bulkhead.Identifier{Type: bulkhead.DNS, Value: n}); id.Check() != nil || id.Wildcard() {
			return wrong("high_value_names", "%q is no suffix of names; write example.com for itself and everything below", n)
		}
	}
	if err := c.DefaultAuthority.Check(); err != nil {
		return wrong("default_authority", "%s", bulkhead.AsFault(err).Detail)
	}
	return errors.Join(c.checkStatus(), c.Status.checkLive(), c.checkLog(), c.checkAdmission(), c.Trust.check(), c.Caches.check(), c.ExpiryNotices.check(), c.Incident.check(), c.checkRetention(), c.Analyser.check(), c.SignIn.check(), c.checkWatch(), c.Witnesses.check(), c.CT.check())
}

func (c Config) checkStatus() error {
	now := time.Now()
	least, most := policy.OCSPWindow(now)
	if v := time.Duration(c.Status.AnswerValidity); v < least || v > most {
		return wrong("status.answer_validity", "%s is not within %s and %s (BR 4.9.9)", v, policy.Value{Duration: least}, policy.Value{Duration: most})
	}
	longest := policy.CRLMaxNextUpdate(policy.Subscriber, now).Add(time.Second).Sub(now)
	if v := time.Duration(c.Status.CRLValidity); v < time.Hour || v > longest {
		return wrong("status.crl_validity", "%s is not within 1 h and %s (BR 7.2)", v, policy.Value{Duration: longest})
	}
	if c.Status.OnePerson < 1 || c.Status.OnePerson > 100_000 {
		return wrong("status.one_person", "%d is not within 1 and 100000", c.Status.OnePerson)
	}
	if err := verifiers.Check(c.Status.Verifiers); err != nil {
		return wrong("status.verifiers", "%s", bulkhead.AsFault(err).Detail)
	}
	return nil
}

func (c Config) checkLog() error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) {
		return wrong("log.level", "%q is not debug, info, warn or error", c.Log.Level)
	}
	if c.Log.Format != "text" && c.Log.Format != "json" {
		return wrong("log.format", "%q is neither text nor json", c.Log.Format)
	}
	return nil
}

func splitListen(addr string) (netip.Addr, uint16, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q is not HOST:PORT", addr)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q has no port number", addr)
	}
	switch host {
	case "localhost":
		host = "127.0.0.1"
	case "":
		host = "0.0.0.0"
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, 0, fmt.Errorf("%q is not an IP address with a port", addr)
	}
	return a, uint16(n), nil
}

// checkStatusURL holds the URL against what relying parties can use: plain HTTP (BR 7.1.2.7.7), a host, a real port.
func checkStatusURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return wrong("status_url", "%q is not a plain http URL", text)
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && a.IsUnspecified() || u.Port() == "0" {
		return wrong("status_url", "%q cannot be dialled by a relying party", text)
	}
	return nil
}

// Marshal is bulkhead.yaml as written at first start.
func (c Config) Marshal() ([]byte, error) {
	body, err := yaml.Marshal(c)
	return append([]byte("# bulkhead.yaml: written at first start; every key and its default: bulkhead config check --explain\n"), body...), err
}
