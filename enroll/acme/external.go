package acme

import (
	"crypto"
	"encoding/base64"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"

	"github.com/go-jose/go-jose/v4"

	"bulkhead"
)

// macAlgorithms are those of an external account binding (RFC 8555 section 7.3.4: a MAC-based algorithm).
var macAlgorithms = []jose.SignatureAlgorithm{jose.HS256, jose.HS384, jose.HS512}

// external verifies an external account binding for the account key with the thumbprint and returns the id of the
// external key (RFC 8555 section 7.3.4).
func (s *Server) external(c *call, body []byte, thumbprint string) (string, error) {
	t, err := parseFlattened(body, macAlgorithms)
	if bulkhead.KindOf(err) == bulkhead.KindBadSignatureAlgorithm {
		return "", malformed("externalAccountBinding: the algorithm is not one of HS256, HS384, HS512")
	}
	if err != nil {
		return "", malformed("externalAccountBinding: %s", bulkhead.AsFault(err).Detail)
	}
	switch {
	case t.header.KeyID == "" || t.header.JSONWebKey != nil:
		return "", malformed("externalAccountBinding has kid and no jwk")
	case t.header.Nonce != "":
		return "", malformed("externalAccountBinding has no nonce")
	case t.url != c.base+c.r.URL.RequestURI():
		return "", malformed("externalAccountBinding has the same url as the request")
	}
	mac, err := s.svc.ExternalMAC(c.ctx(), t.header.KeyID)
	if err != nil {
		return "", err
	}
	payload, err := t.jws.Verify(mac)
	if err != nil {
		return "", bulkhead.NewFault(bulkhead.KindUnauthorized, "the external account key is unknown, used, revoked or expired, or did not make this MAC").
			WithHint("ask the operator for a new key").WithCause(err)
	}
	var k jose.JSONWebKey
	if err := json.Unmarshal(payload, &k); err != nil {
		return "", malformed("the payload of externalAccountBinding is not a JWK")
	}
	if sum, err := k.Thumbprint(crypto.SHA256); err != nil || !k.IsPublic() || base64.RawURLEncoding.EncodeToString(sum) != thumbprint {
		return "", malformed("the payload of externalAccountBinding is not the account's key")
	}
	return t.header.KeyID, nil
}

// from is the address that a request came from, zero when it has none. What a proxy says of its clients is not read.
func (c *call) from() netip.Addr {
	host, _, err := net.SplitHostPort(c.r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}

// limits tells the rate limits in force; refusals point here (RFC 8555 section 6.6).
func (s *Server) limits(c *call) error {
	type rate struct {
		Count int    `json:"count"`
		Per   string `json:"per"`
	}
	out := map[string]rate{}
	for name, r := range s.svc.RateLimits() {
		if r.Count > 0 {
			out[string(name)] = rate{r.Count, r.Per.String()}
		}
	}
	return c.json(http.StatusOK, map[string]any{"limits": out,
		"about": "count units at once and in each per; renewals that name the certificate they replace (RFC 9773) are free of the limits of orders and certificates"})
}
