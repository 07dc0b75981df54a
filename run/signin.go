package run

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"time"

	"bulkhead/console/signin"
	"bulkhead/quorum"
)

// SignIn is how operators sign in with a browser, at /signin/.
type SignIn struct {
	// Session is how long a session lasts: 5m to 12h.
	Session Duration `yaml:"session"`
	// RPID is the name for which security keys are registered (WebAuthn); empty: the host of external_url, or localhost. Keys
	// registered for one name are of no use for another.
	RPID string `yaml:"rp_id,omitempty"`
	// Origins are further places, as https://HOST[:PORT], at which security keys may approve, beside the one of their registration.
	Origins []string `yaml:"origins,omitempty"`
	// Attestation, when set, lets in only security keys for which a maker vouches whom the house trusts. Keys that are bound
	// already stay.
	Attestation *SignInAttestation `yaml:"attestation,omitempty"`
	// OIDC is an identity provider; none is built in. What it says lets people in and approves nothing.
	OIDC *SignInOIDC `yaml:"oidc,omitempty"`
}

// SignInAttestation says whose security keys are taken.
type SignInAttestation struct {
	// Trust are PEM files with the makers' attestation roots, or attestation certificates, relative to the data directory.
	Trust []string `yaml:"trust"`
}

// SignInOIDC is an OpenID Connect provider.
type SignInOIDC struct {
	// Issuer is its address, from which everything else is found.
	Issuer string `yaml:"issuer"`
	// ClientID and ClientSecretFile are what it knows this house by; the file is relative to the data directory.
	ClientID         string `yaml:"client_id"`
	ClientSecretFile string `yaml:"client_secret_file,omitempty"`
	// CAFile holds the roots for its certificate, PEM; empty uses the system's.
	CAFile string `yaml:"ca_file,omitempty"`
	// Scopes are asked for beside openid.
	Scopes []string `yaml:"scopes,omitempty"`
	// Claim names the person; "email" counts only when the provider has verified the address.
	Claim string `yaml:"claim"`
	// People maps values of the claim to operators. Who is not in it does not get in.
	People map[string]string `yaml:"people"`
	// RolesClaim is a claim with a list, and Roles maps its values to admin, issuer-admin, revoker or auditor. They narrow what
	// the operator may do and never widen it; who has none does not get in. Without them the operator's own roles hold.
	RolesClaim string            `yaml:"roles_claim,omitempty"`
	Roles      map[string]string `yaml:"roles,omitempty"`
	// AMR are authentication methods, one of which must have been used at the provider (RFC 8176), "mfa" for example.
	AMR []string `yaml:"amr,omitempty"`
}

func defaultSignIn() SignIn { return SignIn{Session: Duration(time.Hour)} }

func (s SignIn) check() error {
	if d := time.Duration(s.Session); d < 5*time.Minute || d > 12*time.Hour {
		return wrong("sign_in.session", "%s is not within 5m and 12h", d)
	}
	for _, o := range s.Origins {
		if u, err := url.Parse(o); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" {
			return wrong("sign_in.origins", "%q is not like https://HOST[:PORT]", o)
		}
	}
	if s.Attestation != nil && len(s.Attestation.Trust) == 0 {
		return wrong("sign_in.attestation.trust", "no maker is trusted, so no security key could be registered; name PEM files with attestation roots")
	}
	c := s.OIDC
	if c == nil {
		return nil
	}
	u, err := url.Parse(c.Issuer)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopbackHost(u.Hostname())) {
		return wrong("sign_in.oidc.issuer", "%q is not an https URL", c.Issuer)
	}
	if c.ClientID == "" {
		return wrong("sign_in.oidc.client_id", "the provider knows this house by a name")
	}
	if len(c.People) == 0 {
		return wrong("sign_in.oidc.people", "nobody could sign in")
	}
	if (c.RolesClaim == "") != (len(c.Roles) == 0) {
		return wrong("sign_in.oidc.roles", "roles and roles_claim belong together")
	}
	for _, r := range c.Roles {
		if quorum.CheckRoles([]string{r}) != nil {
			return wrong("sign_in.oidc.roles", "%q is none of admin, issuer-admin, revoker and auditor", r)
		}
	}
	return nil
}

func loopbackHost(name string) bool {
	return name == "localhost" || name == "127.0.0.1" || name == "::1"
}

// openSignIn makes what lets people in.
func (h *House) openSignIn() error {
	c := h.cfg.SignIn
	provider, err := h.provider(c.OIDC)
	if err != nil {
		return err
	}
	makers, err := h.makers(c.Attestation)
	if err != nil {
		return err
	}
	h.signin, err = signin.New(signin.Config{Store: h.store, Quorum: h.quorum, Base: func() string { return h.address }, RPID: c.RPID, House: h.cfg.Organization, Session: time.Duration(c.Session),
		OIDC: provider, Attestation: makers, Now: h.now, Log: h.log.With(slog.String("role", "console"))})
	return err
}

// makers reads whose security keys are taken; nil without a policy.
func (h *House) makers(c *SignInAttestation) (*signin.Attestation, error) {
	if c == nil {
		return nil, nil
	}
	out := &signin.Attestation{}
	for _, name := range c.Trust {
		rest, err := os.ReadFile(inDir(h.dir, name))
		if err != nil {
			return nil, wrong("sign_in.attestation.trust", "%s cannot be read", name)
		}
		before := len(out.Trust)
		for block := (*pem.Block)(nil); ; {
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, wrong("sign_in.attestation.trust", "%s: %s", name, err)
			}
			out.Trust = append(out.Trust, cert)
		}
		if len(out.Trust) == before {
			return nil, wrong("sign_in.attestation.trust", "%s holds no PEM certificate", name)
		}
	}
	return out, nil
}

// provider reads what the configuration says of an identity provider.
func (h *House) provider(c *SignInOIDC) (*signin.OIDC, error) {
	if c == nil {
		return nil, nil
	}
	out := &signin.OIDC{Issuer: c.Issuer, ClientID: c.ClientID, Scopes: c.Scopes, Claim: c.Claim, People: c.People, RolesClaim: c.RolesClaim, Roles: c.Roles, AMR: c.AMR}
	if c.ClientSecretFile != "" {
		secret, err := ReadSecret(inDir(h.dir, c.ClientSecretFile))
		if err != nil {
			return nil, err
		}
		out.ClientSecret = string(secret)
	}
	if c.CAFile != "" {
		text, err := os.ReadFile(inDir(h.dir, c.CAFile))
		pool := x509.NewCertPool()
		if err == nil && !pool.AppendCertsFromPEM(text) {
			err = errors.New("it holds no PEM certificate")
		}
		if err != nil {
			return nil, wrong("sign_in.oidc.ca_file", "%s", err)
		}
		out.HTTP = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}}}
	}
	return out, nil
}
