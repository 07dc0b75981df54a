package run

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/enroll/acme"
	"bulkhead/enroll/dcv"
)

// externalSecret is the file from which external account keys and the key of shared nonces are derived. All processes of a house have the same.
const externalSecret = "external.secret"

// RateLimits bound what ACME clients may ask for; count 0 is no limit. Renewals that name the certificate they replace
// (RFC 9773) are free of the limits of orders and certificates.
type RateLimits struct {
	// OrdersPerAccount is new orders of one account.
	OrdersPerAccount Rate `yaml:"orders_per_account"`
	// AccountsPerPrefix is new accounts from one IPv4 /24 or IPv6 /48.
	AccountsPerPrefix Rate `yaml:"accounts_per_prefix"`
	// FailedValidations is failed validations of one name by one account.
	FailedValidations Rate `yaml:"failed_validations"`
	// CertificatesPerSet is certificates for exactly the same names.
	CertificatesPerSet Rate `yaml:"certificates_per_set"`
	// CertificatesPerDomain is certificates under one registered domain.
	CertificatesPerDomain Rate `yaml:"certificates_per_domain"`
	// Overrides replace a limit for one account or one name: limit, account or name, count and per of each. The name is
	// what the limit counts by: a network like 192.0.2.0/24, a domain, or the sorted names of a set with commas.
	Overrides []RateOverride `yaml:"overrides,omitempty"`
}

// Rate is count at once and in each per.
type Rate struct {
	// Count is how many at once; 0 is no limit.
	Count int `yaml:"count"`
	// Per is the time in which as many are free again.
	Per Duration `yaml:"per"`
}

// RateOverride replaces a limit. Exactly one of account and name is set; name is what the limit counts by.
type RateOverride struct {
	Limit   string   `yaml:"limit"`
	Account string   `yaml:"account,omitempty"`
	Name    string   `yaml:"name,omitempty"`
	Count   int      `yaml:"count"`
	Per     Duration `yaml:"per"`
}

// Perspective is a process elsewhere that looks on request: bulkhead run perspective.
type Perspective struct {
	Name string `yaml:"name"`
	// URL is https://HOST:PORT of its listener.
	URL string `yaml:"url"`
	// RIR is the regional registry of its network: AFRINIC, APNIC, ARIN, LACNIC or RIPE.
	RIR string `yaml:"rir"`
	// TokenFile holds the token that it shares with this house.
	TokenFile string `yaml:"token_file"`
	// CertificateFile holds exactly the certificate that it shows, PEM.
	CertificateFile string `yaml:"certificate_file"`
}

// defaultRateLimits are off: the embedded default serves its own house.
func defaultRateLimits() RateLimits {
	hours := func(n int) Rate { return Rate{Per: Duration(time.Duration(n) * time.Hour)} }
	return RateLimits{OrdersPerAccount: hours(3), AccountsPerPrefix: hours(3), FailedValidations: hours(1), CertificatesPerSet: hours(168), CertificatesPerDomain: hours(168)}
}

func (r RateLimits) limits() enroll.RateLimits {
	out := enroll.RateLimits{Rates: map[enroll.LimitName]enroll.Rate{}}
	for name, x := range map[enroll.LimitName]Rate{enroll.OrdersPerAccount: r.OrdersPerAccount, enroll.AccountsPerPrefix: r.AccountsPerPrefix,
		enroll.FailedValidations: r.FailedValidations, enroll.CertificatesPerSet: r.CertificatesPerSet, enroll.CertificatesPerDomain: r.CertificatesPerDomain} {
		if x.Count != 0 {
			out.Rates[name] = enroll.Rate{Count: x.Count, Per: time.Duration(x.Per)}
		}
	}
	for _, o := range r.Overrides {
		out.Overrides = append(out.Overrides, enroll.RateOverride{Limit: enroll.LimitName(o.Limit), Account: o.Account, Name: o.Name, Rate: enroll.Rate{Count: o.Count, Per: time.Duration(o.Per)}})
	}
	return out
}

func (c Config) checkAdmission() error {
	if err := c.RateLimits.limits().Check(); err != nil {
		return wrong("rate_limits", "%s", bulkhead.AsFault(err).Detail)
	}
	for _, p := range c.Perspectives {
		if p.Name == "" || p.URL == "" || p.RIR == "" || p.TokenFile == "" || p.CertificateFile == "" {
			return wrong("perspectives", "a perspective has name, url, rir, token_file and certificate_file")
		}
	}
	return nil
}

// perspectives puts the configured remotes around the primary; none leaves it alone.
func (h *House) perspectives(primary enroll.Validator, own enroll.NameSet) (enroll.Validator, error) {
	if len(h.cfg.Perspectives) == 0 {
		return primary, nil
	}
	cfg := dcv.CorroboratorConfig{Primary: primary, Own: own, Now: h.now}
	for _, p := range h.cfg.Perspectives {
		token, err := ReadSecret(inDir(h.dir, p.TokenFile))
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(inDir(h.dir, p.CertificateFile))
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "perspectives: the certificate of %s cannot be read", p.Name).WithHint("copy perspective.pem from its folder").WithCause(err)
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "perspectives: the certificate of %s is not PEM", p.Name).WithHint("copy perspective.pem from its folder")
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "perspectives: the certificate of %s cannot be read", p.Name).WithCause(err)
		}
		cfg.Remotes = append(cfg.Remotes, dcv.Remote{Name: p.Name, URL: p.URL, RIR: p.RIR, Token: string(token), Certificate: cert})
	}
	c, err := dcv.NewCorroborator(cfg)
	if err != nil {
		return nil, err
	}
	h.corroborator = c
	return c, nil
}

// diagnosePerspectives warns before a dated row asks for more than there is.
func (h *House) diagnosePerspectives(_ context.Context, add func(check, level, next, format string, args ...any)) {
	if h.corroborator == nil {
		return
	}
	const ahead = 60 * 24 * time.Hour
	for _, t := range []time.Time{h.now(), h.now().Add(ahead)} {
		if short := h.corroborator.Shortfall(t); short != "" {
			level := levelFinding
			if t.Equal(h.now()) {
				level = levelFailure
			}
			add("perspectives", level, "set up more: bulkhead run perspective", "%s", short)
			return
		}
	}
	add("perspectives", levelOK, "", "%d remote perspectives, enough for the next 60 days", len(h.cfg.Perspectives))
}

// sharedNonces is nil where every process keeps its own.
func (h *House) sharedNonces() (*acme.SharedNonces, error) {
	if !h.cfg.ACME.SharedNonces {
		return nil, nil
	}
	key, err := hkdf.Key(sha256.New, h.enrolment.ExternalSecret, nil, "bulkhead acme nonces", 32)
	if err != nil {
		return nil, fmt.Errorf("nonce key: %w", err)
	}
	return &acme.SharedNonces{Key: key, Take: h.enroll.TakeOnce, Now: h.now}, nil
}

// secretForExternalKeys reads the secret, made when the house has none yet.
func secretForExternalKeys(dir string) ([]byte, error) {
	path := filepath.Join(dir, externalSecret)
	text, err := ReadSecret(path)
	if _, missing := os.Stat(path); errors.Is(missing, os.ErrNotExist) {
		p := make([]byte, 32)
		if _, err := rand.Read(p); err != nil {
			return nil, fmt.Errorf("secret of external account keys: %w", err)
		}
		if err := writeFile(path, []byte(hex.EncodeToString(p)+"\n"), 0o600); err != nil {
			return nil, err
		}
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := hex.DecodeString(string(text))
	if err != nil || len(p) < 32 {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s does not hold 32 octets in hex", path).WithHint("put the file back; without it external account keys that were handed out are dead")
	}
	return p, nil
}
