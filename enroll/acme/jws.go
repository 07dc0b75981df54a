package acme

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"bulkhead"
	"bulkhead/enroll"
)

// strict is base64url without padding, in which the bits that are left over are zero.
var strict = base64.RawURLEncoding.Strict()

// algorithms are those that a request may be signed with.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

// signed is what a verified request says and who says it.
type signed struct {
	payload []byte
	account bulkhead.Account // when signed by kid
	jwk     *jose.JSONWebKey // when signed by jwk
}

// envelope is the flattened JSON serialisation and nothing more: "header" and "signatures" are unknown members.
type envelope struct {
	Protected string `json:"protected"`
	Payload   string `json:"payload"`
	Signature string `json:"signature"`
}

// token is a parsed, not yet verified envelope.
type token struct {
	plain  *plain // in place of jws
	jws    *jose.JSONWebSignature
	header jose.Header
	url    string
}

func malformed(format string, args ...any) *bulkhead.Fault {
	return bulkhead.Faultf(bulkhead.KindMalformed, format, args...)
}

// parseEnvelope reads a flattened JWS (RFC 8555 section 6.2). What is verified later is exactly these three members.
func parseEnvelope(body []byte) (token, error) {
	t, err := parseFlattened(body, algorithms)
	if err != nil {
		return token{}, err
	}
	if (t.header.JSONWebKey == nil) == (t.header.KeyID == "") {
		return token{}, malformed("the protected header has either jwk or kid, and not both (RFC 8555 section 6.2)")
	}
	return t, nil
}

// parseFlattened reads a flattened JWS with one signature by one of the algorithms.
func parseFlattened(body []byte, algorithms []jose.SignatureAlgorithm) (token, error) {
	var e envelope
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return token{}, malformed("the body is not a JWS in flattened JSON form with protected, payload and signature alone").WithCause(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return token{}, malformed("the body has more than one JSON value")
	}
	if strings.Contains(e.Protected+e.Payload+e.Signature, ".") || e.Protected == "" || e.Signature == "" {
		return token{}, malformed("protected, payload and signature are base64url, and only the payload may be empty")
	}
	for _, part := range []string{e.Protected, e.Payload, e.Signature} {
		if _, err := strict.DecodeString(part); err != nil {
			return token{}, malformed("protected, payload and signature are base64url without padding").WithCause(err)
		}
	}
	jws, err := jose.ParseSignedCompact(e.Protected+"."+e.Payload+"."+e.Signature, algorithms)
	var alg *jose.ErrUnexpectedSignatureAlgorithm
	switch {
	case errors.As(err, &alg):
		return token{}, bulkhead.Faultf(bulkhead.KindBadSignatureAlgorithm, "algorithm %q is not accepted", alg.Got).WithHint("sign with ES256 or another of the algorithms listed")
	case err != nil:
		return token{}, malformed("the JWS cannot be read").WithCause(err)
	case len(jws.Signatures) != 1:
		return token{}, malformed("the JWS has not exactly one signature")
	}
	h := jws.Signatures[0].Protected
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, ok := h.ExtraHeaders[name]; ok {
			return token{}, malformed("the protected header may not have %q", string(name))
		}
	}
	u, _ := h.ExtraHeaders["url"].(string)
	return token{jws: jws, header: h, url: u}, nil
}

// parse is parseEnvelope with a short way for what is plain.
func parse(body []byte) (token, error) {
	if p, ok := parsePlain(body); ok {
		return token{plain: p, header: jose.Header{KeyID: p.kid, Nonce: p.nonce}, url: p.url}, nil
	}
	return parseEnvelope(body)
}

// verify returns the payload of the token that was parsed from body when the key has signed it.
func (t token) verify(body []byte, key *accountKey) ([]byte, error) {
	if t.plain != nil {
		good, known := t.plain.verify(key)
		if good {
			return t.plain.payload, nil
		}
		if known {
			return nil, malformed("the signature of the request does not verify")
		}
		var err error
		if t, err = parseEnvelope(body); err != nil {
			return nil, err
		}
	}
	payload, err := t.jws.Verify(key.public)
	if err != nil {
		return nil, malformed("the signature of the request does not verify").WithCause(err)
	}
	return payload, nil
}

// verify reads a signed request: content type, envelope, key, signature, nonce and URL, in this order. A nonce is used
// up only by a request that its owner signed.
func (s *Server) verify(c *call, by signer) error {
	if by == unsigned {
		return nil
	}
	body, err := readBody(c)
	if err != nil {
		return err
	}
	t, err := parse(body)
	if err != nil {
		return err
	}
	key, err := s.keyOf(c, t, by)
	if err != nil {
		return err
	}
	if c.payload, err = t.verify(body, key); err != nil {
		return err
	}
	if err := s.nonces.redeem(c.ctx(), t.header.Nonce); err != nil {
		return err
	}
	if want := c.base + c.r.URL.RequestURI(); t.url != want {
		return bulkhead.Faultf(bulkhead.KindUnauthorized, "the request was signed for %.200q and sent to %.200q", t.url, want)
	}
	return nil
}

func readBody(c *call) ([]byte, error) {
	const want = "application/jose+json"
	if kind := c.r.Header.Get("Content-Type"); kind != want {
		if t, _, err := mime.ParseMediaType(kind); err != nil || t != want {
			return nil, errContentType
		}
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, errTooLarge
	case err != nil:
		return nil, malformed("the body could not be read").WithCause(err)
	}
	return body, nil
}

// keyOf finds the key that must have signed, and remembers whose it is.
func (s *Server) keyOf(c *call, t token, by signer) (*accountKey, error) {
	if k := t.header.JSONWebKey; k != nil {
		if by == byAccount {
			return nil, malformed("this resource wants kid, the address of your account, in place of jwk")
		}
		c.jwk = k
		return &accountKey{public: k.Key}, nil
	}
	if by == byKey {
		return nil, malformed("this resource wants jwk in place of kid")
	}
	id, ok := strings.CutPrefix(t.header.KeyID, AccountURL(c.base, ""))
	if !ok || id == "" || strings.Contains(id, "/") {
		return nil, bulkhead.NewFault(bulkhead.KindAccountDoesNotExist, "kid is not the address of an account of this server")
	}
	st, err := s.svc.Standing(c.ctx(), id)
	if err != nil {
		return nil, err
	}
	a := st.Account
	c.r = c.r.WithContext(enroll.WithStanding(c.ctx(), st))
	key, err := s.keys.read(a.JWK)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindUnauthorized, "this account has no key to sign with").WithCause(err)
	}
	c.account = a
	return key, nil
}

// decode reads a JSON payload; an empty one is refused.
func (c *call) decode(v any) error {
	if len(c.payload) == 0 {
		return malformed("the payload is empty; a JSON object is expected here")
	}
	if err := json.Unmarshal(c.payload, v); err != nil {
		return malformed("the payload is not the JSON object expected here").WithCause(err)
	}
	return nil
}

// readOnly wants POST-as-GET.
func (c *call) readOnly() error {
	if len(c.payload) != 0 {
		return malformed("this resource is read with an empty payload (RFC 8555 section 6.3)")
	}
	return nil
}
