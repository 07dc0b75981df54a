// Package signin lets operators in with a browser: by a security key (WebAuthn), or by an identity provider (OpenID Connect),
// for a short session.
//
// Invariant: whoever is let in is an operator in office at that moment, and stays in only while he is. A session gives at most
// what the quorum gave the operator; an identity provider can narrow that and never widen it. A session approves nothing: an
// approval is a signature by a key, over exactly what is approved, and is judged by package approval.
//
// Refuses: a challenge or a state that was not given out, has expired or was taken before; another origin; a person who was
// not verified; a security key that counts backwards, that can be copied, or that no quorum bound to its owner; a token for
// somebody else, from somebody else, for another sign-in or from before; a person whom the configuration does not name; a
// change through a session without the proof that the page itself asked for it.
package signin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"bulkhead"
	"bulkhead/pki/approval"
)

// Store is the durable record as sign-in needs it.
type Store interface {
	// BeginSession inserts a session; KindConflict when there is one with its token.
	BeginSession(ctx context.Context, x bulkhead.Session, ev ...bulkhead.Evidence) error
	// Session returns a session by the hash of its token, in force or not; KindNotFound when there is none.
	Session(ctx context.Context, token bulkhead.Hash) (bulkhead.Session, error)
	// EndSession ends a session; KindConflict when it was ended before.
	EndSession(ctx context.Context, token bulkhead.Hash, at time.Time, ev ...bulkhead.Evidence) error
	Invite(ctx context.Context, x bulkhead.Invitation, ev ...bulkhead.Evidence) error
	// Invitation returns an invitation, used or not; KindNotFound when there is none.
	Invitation(ctx context.Context, token bulkhead.Hash) (bulkhead.Invitation, error)
	// UseInvitation marks an invitation used; KindConflict when it was used before.
	UseInvitation(ctx context.Context, token bulkhead.Hash, at time.Time) error
	// PutStep remembers a sign-in under way; KindRateLimited when there are too many.
	PutStep(ctx context.Context, x bulkhead.SignInStep, now time.Time) error
	// TakeStep returns a sign-in under way and forgets it; KindNotFound when there is none.
	TakeStep(ctx context.Context, id bulkhead.Hash) (bulkhead.SignInStep, error)
	AppendEvidence(ctx context.Context, ev ...bulkhead.Evidence) (seqs []int64, err error)
}

// Quorum is the operators and their keys.
type Quorum interface {
	// InOffice finds an operator in office by name; KindNotFound otherwise.
	InOffice(ctx context.Context, name string) (bulkhead.Operator, error)
	SecurityKeys(ctx context.Context) ([]bulkhead.SecurityKey, error)
	// Holder finds whose key in office it is; KindForbidden for a key that no quorum bound, or that counts no more.
	Holder(ctx context.Context, key bulkhead.Hash) (approval.Key, error)
	// UseKey moves the counter of a security key; KindForbidden when it does not go forward.
	UseKey(ctx context.Context, owner string, k approval.SecurityKey, counter uint32) error
	// Propose opens a request for approval.
	Propose(ctx context.Context, action string, payload any, actor, reason string) (bulkhead.ApprovalRequest, error)
}

// Config is what sign-in needs. Store, Quorum and Base are required; the rest has defaults.
type Config struct {
	Store   Store
	Quorum  Quorum
	Base    func() string // where the pages are: https://HOST[:PORT]; asked each time, for the port may not be known at first
	RPID    string        // relying party of security keys; default: the host of Base, localhost for an address
	House   string        // as browsers show it
	Session time.Duration // how long a session lasts; default an hour
	OIDC    *OIDC         // nil: no identity provider
	// Attestation says which makers' security keys are taken; nil takes every maker's, and knows nothing of it.
	Attestation *Attestation
	Now         func() time.Time
	Rand        io.Reader
	Log         *slog.Logger
}

// Limits of a sign-in.
const (
	stepFor   = 5 * time.Minute // from its first step to its last
	inviteFor = 24 * time.Hour
	maxBody   = 64 << 10
)

// Service lets people in.
type Service struct {
	cfg Config

	mu       sync.Mutex // guards provider
	provider *oidc.Provider
}

// New checks the configuration.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Quorum == nil || cfg.Base == nil {
		return nil, fmt.Errorf("signin: store, quorum and base are required")
	}
	if cfg.Session == 0 {
		cfg.Session = time.Hour
	}
	if cfg.House == "" {
		cfg.House = "bulkhead"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OIDC != nil {
		if err := cfg.OIDC.check(); err != nil {
			return nil, err
		}
	}
	return &Service{cfg: cfg}, nil
}

// site is where the pages are as browsers know it: its origin, and the relying party. Security keys want a name, so an
// address of this machine is called localhost.
func (s *Service) site() (origin, rpID string, err error) {
	u, err := url.Parse(s.cfg.Base())
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", "", bulkhead.NewFault(bulkhead.KindUnavailable, "sign-in does not know its own address yet").WithHint("set external_url in bulkhead.yaml")
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLoopback() {
		u.Host = net.JoinHostPort("localhost", u.Port())
	}
	rpID = s.cfg.RPID
	if rpID == "" {
		rpID = u.Hostname()
	}
	return "https://" + strings.TrimSuffix(u.Host, ":443"), rpID, nil
}

func (s *Service) now() time.Time { return s.cfg.Now().UTC().Truncate(time.Second) }

// secret is 32 random octets for a cookie or a link.
func (s *Service) secret() (string, error) {
	p := make([]byte, 32)
	if _, err := io.ReadFull(s.cfg.Rand, p); err != nil {
		return "", fmt.Errorf("random token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(p), nil
}

func hashOf(token string) bulkhead.Hash { return bulkhead.Digest([]byte(token)) }

// remember puts a step away under a fresh name, which is returned.
func (s *Service) remember(ctx context.Context, kind string, body []byte) (string, error) {
	id, err := s.secret()
	if err != nil {
		return "", err
	}
	now := s.now()
	return id, s.cfg.Store.PutStep(ctx, bulkhead.SignInStep{ID: hashOf(id), Kind: kind, Body: body, ExpiresAt: now.Add(stepFor)}, now)
}

// recall takes a step, once.
func (s *Service) recall(ctx context.Context, kind, id string) ([]byte, error) {
	x, err := s.cfg.Store.TakeStep(ctx, hashOf(id))
	if bulkhead.KindOf(err) == bulkhead.KindNotFound || err == nil && (x.Kind != kind || !s.now().Before(x.ExpiresAt)) {
		return nil, bulkhead.NewFault(bulkhead.KindUnauthorized, "this sign-in was not begun here, took too long, or was finished before").WithHint("begin again at " + prefix)
	}
	return x.Body, err
}

// refused records that somebody whom a key or a provider vouched for was not let in, and returns why. Strangers leave no
// leaf: they could fill the log.
func (s *Service) refused(ctx context.Context, ref string, key bulkhead.Hash, why error) error {
	if k := bulkhead.KindOf(why); k == bulkhead.KindUnavailable || k == bulkhead.KindInternal {
		return why
	}
	detail := bulkhead.AsFault(why).Detail
	s.cfg.Log.WarnContext(ctx, "somebody was not let in", slog.String("who", ref), slog.String("why", detail))
	if _, err := s.cfg.Store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvSignInNo, At: s.cfg.Now().UTC(), Actor: "role:console", Ref: clip(ref), KeyHash: key, Detail: clip(detail)}); err != nil {
		return err
	}
	return why
}

func clip(s string) string {
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + " …"
	}
	return s
}

// decodeLimited reads a small body.
func decodeLimited(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "the request body cannot be read, or has more than %d octets", maxBody)
	}
	return body, nil
}
