package hammer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

const (
	poll    = 10 * time.Millisecond // between two looks at something that is being worked on, whatever Retry-After says
	looks   = 1000                  // before the client gives up
	retries = 5                     // of one request whose nonce was refused
)

// The steps of an order, as the client sees them.
const (
	stepOrder = iota
	stepAuthz
	stepChallenge // until the answer to "ready"
	stepValidation
	stepFinalize // until the answer to the certification request
	stepIssuance
	stepDownload
	steps
)

var stepNames = [steps]string{"order", "authz", "challenge", "validation", "finalize", "issuance", "download"}

// taken is how long one order took, and each of its steps.
type taken struct {
	total time.Duration
	step  [steps]time.Duration
	polls int
	name  string
	chain []byte // to be looked at when the round is over
}

// directory is what the client reads of an ACME directory.
type directory struct {
	NewNonce, NewAccount, NewOrder string
}

// subscriber is one ACME account on one server. It does no more than the protocol asks, because its work is measured
// with the server's.
type subscriber struct {
	wire       *wire
	dir        directory
	account    *ecdsa.PrivateKey
	kid        string
	thumbprint string
	nonce      string
	keys       []certKey // of certificates, used in turns
	used       int
	web        *internet
}

// certKey is a key for certificates with its DER SubjectPublicKeyInfo.
type certKey struct {
	*ecdsa.PrivateKey
	spki []byte
}

func newCertKey() (certKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certKey{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	return certKey{k, spki}, err
}

func newSubscriber(w *wire, url string, web *internet, keys []certKey) (*subscriber, error) {
	s := &subscriber{wire: w, web: web, keys: keys}
	_, body, err := w.do(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &s.dir); err != nil {
		return nil, err
	}
	if s.account, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	jwk, err := s.jwk()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(jwk)
	s.thumbprint = b64(sum[:])
	a, err := s.post(s.dir.NewAccount, map[string]any{"termsOfServiceAgreed": true}, nil)
	if err != nil {
		return nil, err
	}
	s.kid = a.Get("Location")
	return s, nil
}

func b64(p []byte) string { return base64.RawURLEncoding.EncodeToString(p) }

// jwk is the account's public key with its members in the order of RFC 7638.
func (s *subscriber) jwk() ([]byte, error) {
	p, err := s.account.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, b64(p[1:33]), b64(p[33:])), nil
}

// sign makes the JWS of a request; a nil payload is POST-as-GET.
func (s *subscriber) sign(url string, payload any) ([]byte, error) {
	who := fmt.Sprintf(`"kid":%q`, s.kid)
	if s.kid == "" {
		jwk, err := s.jwk()
		if err != nil {
			return nil, err
		}
		who = `"jwk":` + string(jwk)
	}
	head := fmt.Appendf(nil, `{"alg":"ES256","nonce":%q,"url":%q,%s}`, s.nonce, url, who)
	var body []byte
	var err error
	if payload != nil {
		if body, err = json.Marshal(payload); err != nil {
			return nil, err
		}
	}
	protected, data := b64(head), b64(body)
	sum := sha256.Sum256([]byte(protected + "." + data))
	r, z, err := ecdsa.Sign(rand.Reader, s.account, sum[:])
	if err != nil {
		return nil, err
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	z.FillBytes(sig[32:])
	return fmt.Appendf(nil, `{"protected":%q,"payload":%q,"signature":%q}`, protected, data, b64(sig)), nil
}

// post sends a signed request and reads the answer into v: JSON, or the bytes themselves for *[]byte.
func (s *subscriber) post(url string, payload, v any) (http.Header, error) {
	for range retries {
		if s.nonce == "" {
			resp, _, err := s.wire.do(http.MethodHead, s.dir.NewNonce, nil)
			if err != nil {
				return nil, err
			}
			s.nonce = resp.Header.Get("Replay-Nonce")
		}
		body, err := s.sign(url, payload)
		if err != nil {
			return nil, err
		}
		resp, answer, err := s.wire.do(http.MethodPost, url, body)
		if err != nil {
			return nil, err
		}
		s.nonce = resp.Header.Get("Replay-Nonce")
		if resp.StatusCode == http.StatusBadRequest && bytes.Contains(answer, []byte(":badNonce")) {
			continue
		}
		if resp.StatusCode >= 300 {
			return nil, fmt.Errorf("%s: status %d: %s", url, resp.StatusCode, answer)
		}
		switch v := v.(type) {
		case nil:
			return resp.Header, nil
		case *[]byte:
			*v = answer
			return resp.Header, nil
		}
		return resp.Header, json.Unmarshal(answer, v)
	}
	return nil, fmt.Errorf("%s: %d nonces refused", url, retries)
}

type order struct {
	Status, Finalize, Certificate string
	Authorizations                []string
	Error                         json.RawMessage
}

type authorization struct {
	Status     string
	Challenges []struct {
		Type, URL, Token, Status string
		Error                    json.RawMessage
	}
}

// obtain goes from an order for a name to its certificate.
func (s *subscriber) obtain(name string) (taken, error) {
	var t taken
	start := time.Now()
	last := start
	done := func(step int) {
		now := time.Now()
		t.step[step], last = now.Sub(last), now
	}
	var o order
	h, err := s.post(s.dir.NewOrder, map[string]any{"identifiers": []map[string]string{{"type": "dns", "value": name}}}, &o)
	if err != nil {
		return t, err
	}
	at := h.Get("Location")
	if o.Status != "pending" || len(o.Authorizations) != 1 {
		return t, fmt.Errorf("a new order is %s with %d authorizations", o.Status, len(o.Authorizations))
	}
	done(stepOrder)
	if err := s.validate(o.Authorizations[0], &t, done); err != nil {
		return t, err
	}
	key := s.keys[s.used%len(s.keys)]
	csr, err := request(key.PrivateKey, key.spki, name)
	s.used++
	if err != nil {
		return t, err
	}
	if _, err = s.post(o.Finalize, map[string]string{"csr": b64(csr)}, &o); err != nil {
		return t, err
	}
	done(stepFinalize)
	for range looks {
		if o.Status != "processing" {
			break
		}
		time.Sleep(poll)
		t.polls++
		if _, err := s.post(at, nil, &o); err != nil {
			return t, err
		}
	}
	if o.Status != "valid" {
		return t, fmt.Errorf("the order is %s: %s", o.Status, o.Error)
	}
	done(stepIssuance)
	if _, err := s.post(o.Certificate, nil, &t.chain); err != nil {
		return t, err
	}
	done(stepDownload)
	t.total, t.name = last.Sub(start), name
	return t, nil
}

// validate answers the http-01 challenge of an authorisation and waits until it is valid.
func (s *subscriber) validate(at string, t *taken, done func(int)) error {
	var a authorization
	if _, err := s.post(at, nil, &a); err != nil {
		return err
	}
	done(stepAuthz)
	for _, c := range a.Challenges {
		if c.Type != "http-01" {
			continue
		}
		forget := s.web.present(c.Token, c.Token+"."+s.thumbprint)
		defer forget()
		if _, err := s.post(c.URL, struct{}{}, &c); err != nil {
			return err
		}
		done(stepChallenge)
		a.Status = c.Status
		for range looks {
			if a.Status != "pending" && a.Status != "processing" {
				break
			}
			time.Sleep(poll)
			t.polls++
			if _, err := s.post(at, nil, &a); err != nil {
				return err
			}
		}
		if a.Status != "valid" {
			return fmt.Errorf("the authorization is %s: %+v", a.Status, a.Challenges)
		}
		done(stepValidation)
		return nil
	}
	return fmt.Errorf("no http-01 among %+v", a.Challenges)
}

// covers says whether a chain begins with a certificate over exactly the name.
func covers(chain []byte, name string) error {
	block, _ := pem.Decode(chain)
	if block == nil {
		return fmt.Errorf("no certificate in %q", chain)
	}
	x, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	if !slices.Equal(x.DNSNames, []string{name}) {
		return fmt.Errorf("a certificate over %s, not %s", strings.Join(x.DNSNames, ", "), name)
	}
	return nil
}
