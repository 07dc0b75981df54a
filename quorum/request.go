package quorum

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"sync"
	"time"

	"bulkhead"
)

// Scheme is the HTTP authentication scheme of requests signed by an operator's key.
const Scheme = "Bulkhead-Operator"

// requestSkew bounds the age of a signed request and so the memory of nonces.
const requestSkew = 60 * time.Second

// maxNonces bounds the memory of nonces; beyond it requests are refused rather than replays accepted.
const maxNonces = 100_000

// signedRequest binds a signature to one HTTP request. Path includes the query.
type signedRequest struct {
	KeyHash bulkhead.Hash `json:"key"`
	Method  string        `json:"method"`
	Path    string        `json:"path"`
	Body    bulkhead.Hash `json:"body"` // SHA-256 of the body, of nothing when empty
	At      int64         `json:"at"`   // unix seconds
	Nonce   string        `json:"nonce"`
}

// SignRequest returns the value of the Authorization header for one request. The key never leaves the caller.
func SignRequest(key ed25519.PrivateKey, method, path string, body []byte, at time.Time, nonce string) (string, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return "", bulkhead.NewFault(bulkhead.KindMalformed, "the operator key is not Ed25519")
	}
	p, err := json.Marshal(signedRequest{bulkhead.Digest(pub), method, path, bulkhead.Digest(body), at.Unix(), nonce})
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	return Scheme + " " + enc.EncodeToString(p) + "." + enc.EncodeToString(ed25519.Sign(key, signedBytes(p))), nil
}

// signedBytes separates request signatures from approvals: neither can stand for the other.
func signedBytes(p []byte) []byte { return append([]byte("bulkhead request v1\n"), p...) }

// Gatekeeper authenticates signed requests and refuses replays.
type Gatekeeper struct {
	q *Quorum

	mu   sync.Mutex // guards seen
	seen map[string]time.Time
}

// NewGatekeeper checks requests against the operators of q.
func NewGatekeeper(q *Quorum) *Gatekeeper { return &Gatekeeper{q: q, seen: map[string]time.Time{}} }

// Authenticate returns the operator who signed the request. It fails with KindUnauthorized or KindForbidden.
func (g *Gatekeeper) Authenticate(ctx context.Context, header, method, path string, body []byte) (bulkhead.Operator, error) {
	no := func(detail string) (bulkhead.Operator, error) {
		return bulkhead.Operator{}, bulkhead.NewFault(bulkhead.KindUnauthorized, detail).WithHint("sign with an operator key of this house: --operator-key FILE")
	}
	token, ok := strings.CutPrefix(header, Scheme+" ")
	if !ok {
		return no("the request is not signed by an operator")
	}
	head, sig, ok := strings.Cut(token, ".")
	if !ok || len(token) > 4096 {
		return no("the operator signature cannot be read")
	}
	enc := base64.RawURLEncoding
	p, err1 := enc.DecodeString(head)
	s, err2 := enc.DecodeString(sig)
	var r signedRequest
	if err1 != nil || err2 != nil || json.Unmarshal(p, &r) != nil {
		return no("the operator signature cannot be read")
	}
	op, err := g.q.inOffice(ctx, r.KeyHash)
	if err != nil {
		return op, err
	}
	now := g.q.cfg.Now()
	switch {
	case !ed25519.Verify(op.PublicKey, signedBytes(p), s):
		return no("the operator signature does not verify")
	case r.Method != method || r.Path != path || r.Body != bulkhead.Digest(body):
		return no("the operator signature is for another request")
	case now.Sub(time.Unix(r.At, 0)).Abs() > requestSkew:
		return no("the operator signature is older than a minute, or one of the clocks is wrong")
	case len(r.Nonce) < 16 || len(r.Nonce) > 64 || !g.fresh(r.KeyHash.String()+r.Nonce, now):
		return no("the operator signature was used before")
	}
	return op, nil
}

// fresh records a nonce and reports whether it was new.
func (g *Gatekeeper) fresh(nonce string, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.seen) >= maxNonces/2 {
		for n, t := range g.seen {
			if now.Sub(t) > 2*requestSkew {
				delete(g.seen, n)
			}
		}
	}
	if _, old := g.seen[nonce]; old || len(g.seen) >= maxNonces {
		return false
	}
	g.seen[nonce] = now
	return true
}

// MarshalKey encodes an operator's private key as PEM PKCS#8.
func MarshalKey(key ed25519.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// ParseKey reads an operator's private key from PEM PKCS#8.
func ParseKey(p []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(p)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "that file holds no PEM private key").WithHint("use the operator key that the first start printed")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "the private key cannot be read").WithCause(err)
	}
	ed, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "an operator key is Ed25519; this one is of another kind")
	}
	return ed, nil
}

// MarshalPublicKey encodes an operator's public key as PEM SubjectPublicKeyInfo.
func MarshalPublicKey(pub ed25519.PublicKey) ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePublicKey reads an operator's public key from PEM SubjectPublicKeyInfo.
func ParsePublicKey(p []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(p)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "that file holds no PEM public key").WithHint("openssl genpkey -algorithm ed25519 -out KEY && openssl pkey -in KEY -pubout -out KEY.pub")
	}
	k, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "the public key cannot be read").WithCause(err)
	}
	ed, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "an operator key is Ed25519; this one is of another kind")
	}
	return ed, nil
}
