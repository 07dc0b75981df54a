package dcv

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"bulkhead"
	"bulkhead/enroll"
)

// LookPath is the one resource of a perspective.
const LookPath = "/v1/look"

// maxLook is the largest request or answer between a house and a perspective, in bytes.
const maxLook = 64 << 10

// minToken is the least length of the shared token, in bytes.
const minToken = 32

// lookRequest asks a perspective for one look. KeyAuthorization is no secret: it is public once the challenge is
// answered.
type lookRequest struct {
	Identifier       bulkhead.Identifier `json:"identifier"`
	Method           bulkhead.Method     `json:"method"`
	Token            string              `json:"token,omitempty"`
	KeyAuthorization string              `json:"key_authorization,omitempty"`
	CAA              bool                `json:"caa,omitempty"` // look at CAA in place of the challenge
	Wildcard         bool                `json:"wildcard,omitempty"`
	AccountURI       string              `json:"account_uri,omitempty"`
}

// lookAnswer is what was seen, or why not.
type lookAnswer struct {
	Seen   bool               `json:"seen"` // control was seen, or CAA could be looked at; an answer without it corroborates nothing
	Detail string             `json:"detail"`
	Kind   bulkhead.Kind      `json:"kind,omitempty"` // of the refusal
	CAA    bulkhead.CAAResult `json:"caa,omitempty"`
}

// PerspectiveConfig is what a perspective needs: its own eyes and the token that it shares with its house.
type PerspectiveConfig struct {
	Validator enroll.Validator
	Token     string
	Log       *slog.Logger // nil discards
}

type perspective struct {
	cfg  PerspectiveConfig
	want [32]byte
	log  *slog.Logger
}

// NewPerspective returns the handler of a network perspective (BR 3.2.2.9): it looks once for whoever has the token,
// keeps nothing, decides nothing. It belongs behind TLS.
func NewPerspective(cfg PerspectiveConfig) (http.Handler, error) {
	if cfg.Validator == nil {
		return nil, errors.New("dcv: a perspective needs a validator")
	}
	if len(cfg.Token) < minToken {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "the token of a perspective has at least %d characters", minToken).WithHint("openssl rand -hex 32")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	p := &perspective{cfg: cfg, want: sha256.Sum256([]byte(cfg.Token)), log: cfg.Log}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+LookPath, p.look)
	return mux, nil
}

func (p *perspective) look(w http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	got := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(got[:], p.want[:]) != 1 {
		http.Error(w, "the token is not ours", http.StatusUnauthorized)
		return
	}
	var q lookRequest
	d := json.NewDecoder(io.LimitReader(r.Body, maxLook))
	d.DisallowUnknownFields()
	if err := d.Decode(&q); err != nil {
		http.Error(w, "the request is not a look", http.StatusBadRequest)
		return
	}
	var a lookAnswer
	if q.CAA {
		c, err := p.cfg.Validator.CheckCAA(r.Context(), q.Identifier, q.Wildcard, q.AccountURI, q.Method)
		a = refusal(err)
		if err == nil {
			a = lookAnswer{Seen: true, Detail: c.Detail, CAA: c.Result}
		}
	} else {
		detail, err := p.cfg.Validator.Validate(r.Context(), q.Identifier, q.Method, q.Token, q.KeyAuthorization)
		a = refusal(err)
		if err == nil {
			a = lookAnswer{Seen: true, Detail: detail}
		}
	}
	p.log.InfoContext(r.Context(), "looked", "name", q.Identifier.Value, "method", string(q.Method), "caa", q.CAA, "kind", string(a.Kind), "detail", a.Detail)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if err := json.NewEncoder(w).Encode(a); err != nil {
		p.log.DebugContext(r.Context(), "answering", "error", err)
	}
}

func refusal(err error) lookAnswer {
	if err == nil {
		return lookAnswer{}
	}
	f := bulkhead.AsFault(err)
	return lookAnswer{Kind: f.Kind, Detail: f.Detail}
}
