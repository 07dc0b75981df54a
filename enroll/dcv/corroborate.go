package dcv

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/enroll"
	"bulkhead/pki/policy"
)

// RIRs are the regional registries that a perspective can lie in (BR 3.2.2.9).
var RIRs = []string{"AFRINIC", "APNIC", "ARIN", "LACNIC", "RIPE"}

// Remote is a perspective somewhere else. All fields are required.
type Remote struct {
	Name        string
	URL         string            // https://HOST:PORT
	RIR         string            // one of RIRs
	Token       string            // shared with it
	Certificate *x509.Certificate // exactly what it shows; no authority vouches for it
}

// CorroboratorConfig is what a Corroborator needs. Primary, Remotes and Now are required.
type CorroboratorConfig struct {
	Primary enroll.Validator
	Remotes []Remote
	// Own are names of the house, which nobody outside can see; they are not corroborated, and the detail says so.
	Own     enroll.NameSet
	Timeout time.Duration // one look of a remote; 25 s
	Now     func() time.Time
}

// Corroborator looks from several places at once (multi-perspective issuance corroboration, BR 3.2.2.9). The primary
// must see; of the remotes as many as the dated rows of policy want, in as many registries. It keeps nothing between
// calls: a retry starts afresh.
type Corroborator struct {
	cfg     CorroboratorConfig
	clients []*http.Client
}

var _ enroll.Validator = (*Corroborator)(nil)

// NewCorroborator checks the remotes. It fails with KindUsage when there are fewer than policy asks for now.
func NewCorroborator(cfg CorroboratorConfig) (*Corroborator, error) {
	if cfg.Primary == nil || cfg.Now == nil || len(cfg.Remotes) == 0 {
		return nil, errors.New("dcv: Primary, Remotes and Now are required")
	}
	setDefault(&cfg.Timeout, 25*time.Second)
	c := &Corroborator{cfg: cfg}
	names := map[string]bool{}
	for _, r := range cfg.Remotes {
		if err := r.check(); err != nil {
			return nil, err
		}
		if names[r.Name] {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "two perspectives are named %q", r.Name)
		}
		names[r.Name] = true
		c.clients = append(c.clients, r.client())
	}
	if short := c.Shortfall(cfg.Now()); short != "" {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "perspectives: "+short).WithHint("add perspectives, or configure none to do without corroboration")
	}
	return c, nil
}

func (r Remote) check() error {
	u, err := url.Parse(r.URL)
	switch {
	case r.Name == "":
		return bulkhead.NewFault(bulkhead.KindUsage, "a perspective has no name")
	case err != nil || u.Scheme != "https" || u.Host == "":
		return bulkhead.Faultf(bulkhead.KindUsage, "perspective %s: %q is not an https URL", r.Name, r.URL)
	case !slices.Contains(RIRs, r.RIR):
		return bulkhead.Faultf(bulkhead.KindUsage, "perspective %s: %q is not one of %s", r.Name, r.RIR, strings.Join(RIRs, ", "))
	case len(r.Token) < minToken:
		return bulkhead.Faultf(bulkhead.KindUsage, "perspective %s: its token has at least %d characters", r.Name, minToken)
	case r.Certificate == nil:
		return bulkhead.Faultf(bulkhead.KindUsage, "perspective %s: its certificate is not known", r.Name)
	}
	return nil
}

// client speaks to exactly the pinned certificate, through no proxy, along no redirect.
func (r Remote) client() *http.Client {
	pinned := r.Certificate.Raw
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, //nolint:gosec // the certificate is compared octet by octet below
				VerifyConnection: func(s tls.ConnectionState) error {
					if len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, pinned) {
						return errors.New("the perspective shows another certificate than the configured one")
					}
					return nil
				}},
		},
	}
}

// Shortfall says what the remotes lack of what policy asks for at t, "" for nothing.
func (c *Corroborator) Shortfall(t time.Time) string {
	p := policy.MPIC(t)
	registries := map[string]bool{}
	for _, r := range c.cfg.Remotes {
		registries[r.RIR] = true
	}
	if p.Enough(len(c.cfg.Remotes), len(c.cfg.Remotes), len(registries)) {
		return ""
	}
	return fmt.Sprintf("%d remote perspectives in %d registries, where %d in %d are asked for on %s (BR 3.2.2.9)", len(c.cfg.Remotes), len(registries), p.Remote, p.RIRs, t.Format(time.DateOnly))
}

// seen is the answer of one remote.
type seen struct {
	i      int
	caa    bool // what was asked
	answer lookAnswer
	err    error // it could not be asked
}

func (s seen) corroborates() bool {
	return s.err == nil && s.answer.Seen && s.answer.Kind == "" && s.caa == (s.answer.CAA == bulkhead.CAAPermitted)
}

// Validate implements enroll.Validator.
func (c *Corroborator) Validate(ctx context.Context, id bulkhead.Identifier, m bulkhead.Method, token, keyAuthorization string) (string, error) {
	if c.cfg.Own.Contains(id) {
		detail, err := c.cfg.Primary.Validate(ctx, id, m, token, keyAuthorization)
		return detail + ownNote, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a primary that fails ends the remote looks
	answers := c.ask(ctx, lookRequest{Identifier: id, Method: m, Token: token, KeyAuthorization: keyAuthorization})
	detail, err := c.cfg.Primary.Validate(ctx, id, m, token, keyAuthorization)
	if err != nil {
		return "", err
	}
	enough, text, kind := c.judge(answers)
	if !enough {
		return "", bulkhead.Faultf(kind, "seen here (%s), and not from enough places: %s", detail, text)
	}
	return detail + "; " + text, nil
}

const ownNote = "; a name of the house, not corroborated"

// CheckCAA implements enroll.Validator.
func (c *Corroborator) CheckCAA(ctx context.Context, id bulkhead.Identifier, wildcard bool, accountURI string, m bulkhead.Method) (bulkhead.CAACheck, error) {
	if id.Type != bulkhead.DNS || c.cfg.Own.Contains(id) {
		return c.cfg.Primary.CheckCAA(ctx, id, wildcard, accountURI, m)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := c.ask(ctx, lookRequest{Identifier: id, Method: m, CAA: true, Wildcard: wildcard, AccountURI: accountURI})
	check, err := c.cfg.Primary.CheckCAA(ctx, id, wildcard, accountURI, m)
	if err != nil || check.Result == bulkhead.CAADenied {
		return check, err
	}
	enough, text, _ := c.judge(answers)
	check.Detail += "; " + text
	if !enough {
		check.Result = bulkhead.CAADenied
	}
	return check, nil
}

// ask sends the look to every remote at once; the channel gets one answer of each.
func (c *Corroborator) ask(ctx context.Context, q lookRequest) <-chan seen {
	answers := make(chan seen, len(c.cfg.Remotes))
	for i := range c.cfg.Remotes {
		go func() {
			a, err := c.askOne(ctx, i, q)
			answers <- seen{i, q.CAA, a, err}
		}()
	}
	return answers
}

func (c *Corroborator) askOne(ctx context.Context, i int, q lookRequest) (lookAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return lookAnswer{}, err
	}
	r := c.cfg.Remotes[i]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(r.URL, "/")+LookPath, bytes.NewReader(body))
	if err != nil {
		return lookAnswer{}, err
	}
	req.Header.Set("Authorization", "Bearer "+r.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.clients[i].Do(req)
	if err != nil {
		return lookAnswer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return lookAnswer{}, fmt.Errorf("status %d", resp.StatusCode)
	}
	var a lookAnswer
	err = json.NewDecoder(io.LimitReader(resp.Body, maxLook)).Decode(&a)
	if err == nil && q.CAA && a.Kind == "" && !slices.Contains([]bulkhead.CAAResult{bulkhead.CAAPermitted, bulkhead.CAADenied, bulkhead.CAAExempt}, a.CAA) {
		err = errors.New("the answer says nothing of CAA")
	}
	return a, err
}

// judge waits for every remote and holds what they saw against the policy of the day. text names each of them and
// begins with "corroborated n/m"; kind is for a refusal.
func (c *Corroborator) judge(answers <-chan seen) (enough bool, text string, kind bulkhead.Kind) {
	n := len(c.cfg.Remotes)
	all := make([]seen, n)
	for range n {
		s := <-answers
		all[s.i] = s
	}
	ok, registries := 0, map[string]bool{}
	parts := make([]string, n)
	for i, s := range all {
		r := c.cfg.Remotes[i]
		what := "saw it"
		switch {
		case s.corroborates():
			ok++
			registries[r.RIR] = true
		case s.err != nil:
			what = "could not be asked: " + withoutURL(s.err)
			if kind == "" {
				kind = bulkhead.KindUnavailable
			}
		default:
			what = fmt.Sprintf("%s: %.300s", s.answer.Kind, s.answer.Detail)
			if s.answer.CAA != "" {
				what = fmt.Sprintf("CAA %s: %.300s", s.answer.CAA, s.answer.Detail)
			}
			if kind == "" || kind == bulkhead.KindUnavailable {
				kind = refusalKind(s.answer.Kind)
			}
		}
		parts[i] = r.Name + " (" + r.RIR + ") " + what
	}
	p := policy.MPIC(c.cfg.Now())
	enough = p.Enough(ok, n, len(registries))
	if kind == "" {
		kind = bulkhead.KindUnauthorized // too few registries, though all saw it
	}
	text = fmt.Sprintf("corroborated %d/%d in %d registries: %s", ok, n, len(registries), strings.Join(parts, ", "))
	if !p.Enforced {
		text += " (report only)"
	}
	return enough, text, kind
}

// withoutURL keeps the address of a perspective out of what subscribers read.
func withoutURL(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return plainNetError(err)
}

// refusalKind lets a remote say no for the reasons that a look has, and for no other.
func refusalKind(k bulkhead.Kind) bulkhead.Kind {
	switch k {
	case bulkhead.KindConnection, bulkhead.KindDNS, bulkhead.KindTLS, bulkhead.KindIncorrectResponse:
		return k
	default:
		return bulkhead.KindUnauthorized
	}
}
