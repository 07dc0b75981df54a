package enroll

import (
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"bulkhead"
	"bulkhead/pki/csr"
	"bulkhead/pki/keycheck"
)

// MaxCSR is the largest certification request looked at, in bytes.
const MaxCSR = 64 << 10

// Request is a certification request that proves possession of its key.
type Request struct {
	DER   []byte
	Key   crypto.PublicKey
	SPKI  []byte                // DER SubjectPublicKeyInfo, canonical
	Names []bulkhead.Identifier // from the common name and the subject alternative names, sorted, without doubles
}

// ParseCSR reads a DER PKCS#10 request and verifies its signature (RFC 2986). It fails with KindBadCSR or KindBadSignatureAlgorithm.
func ParseCSR(der []byte) (Request, error) { return parseCSR(new(csr.Reader), der) }

func parseCSR(r *csr.Reader, der []byte) (Request, error) {
	if len(der) > MaxCSR {
		return Request{}, bulkhead.Faultf(bulkhead.KindBadCSR, "the request has %d bytes, at most %d are read", len(der), MaxCSR)
	}
	req, err := r.Read(der)
	if err != nil {
		return Request{}, err
	}
	if len(req.URIs) > 0 {
		return Request{}, bulkhead.NewFault(bulkhead.KindBadCSR, "the request names URIs; only DNS names, IP addresses and mail addresses are served")
	}
	names, err := requestNames(req)
	if err != nil {
		return Request{}, err
	}
	spki, err := keycheck.SPKI(req.PublicKey) // the canonical form: an odd encoding must not slip past a block
	if err != nil {
		return Request{}, bulkhead.NewFault(bulkhead.KindBadPublicKey, "the request's key is of a kind that is not served").WithCause(err)
	}
	return Request{DER: der, Key: req.PublicKey, SPKI: spki, Names: names}, nil
}

func requestNames(req *x509.CertificateRequest) ([]bulkhead.Identifier, error) {
	var names []bulkhead.Identifier
	for _, n := range req.DNSNames {
		names = append(names, bulkhead.Identifier{Type: bulkhead.DNS, Value: strings.ToLower(n)})
	}
	for _, ip := range req.IPAddresses {
		a, ok := netip.AddrFromSlice(ip)
		if !ok {
			return nil, bulkhead.NewFault(bulkhead.KindBadCSR, "the request has a malformed IP address")
		}
		names = append(names, bulkhead.Identifier{Type: bulkhead.IP, Value: a.Unmap().String()})
	}
	for _, m := range req.EmailAddresses {
		id, err := bulkhead.ParseIdentifier(m)
		if err != nil || id.Type != bulkhead.Email {
			return nil, bulkhead.Faultf(bulkhead.KindBadCSR, "the request has a malformed mail address %q", m)
		}
		names = append(names, id)
	}
	if cn := strings.TrimSpace(req.Subject.CommonName); cn != "" {
		id, err := bulkhead.ParseIdentifier(cn)
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindBadCSR, "the common name %q is no name that can be certified", cn).
				WithHint("leave the common name empty and put the names into the subject alternative name")
		}
		names = append(names, id)
	}
	for _, id := range names {
		if err := id.Check(); err != nil {
			return nil, bulkhead.NewFault(bulkhead.KindBadCSR, "in the request: "+bulkhead.AsFault(err).Detail)
		}
	}
	return sortNames(names), nil
}

func sortNames(names []bulkhead.Identifier) []bulkhead.Identifier {
	out := slices.Clone(names)
	slices.SortFunc(out, func(a, b bulkhead.Identifier) int {
		if c := strings.Compare(string(a.Type), string(b.Type)); c != 0 {
			return c
		}
		return strings.Compare(a.Value, b.Value)
	})
	return slices.Compact(out)
}

// matchCSR checks that a request is for exactly the names of the order and not for the account's own key
// (RFC 8555 sections 7.4 and 11.1).
func matchCSR(r Request, acct bulkhead.Account, ids []bulkhead.Identifier) error {
	if want := sortNames(ids); !slices.Equal(r.Names, want) {
		return bulkhead.Faultf(bulkhead.KindBadCSR, "the request names %s, the order %s", nameList(r.Names), nameList(want)).
			WithHint("make a request for exactly the names of the order")
	}
	if acct.Thumbprint == "" {
		return nil
	}
	sum, err := (&jose.JSONWebKey{Key: r.Key}).Thumbprint(crypto.SHA256) // a key that cannot be an account's has none
	if err == nil && base64.RawURLEncoding.EncodeToString(sum) == acct.Thumbprint {
		return bulkhead.NewFault(bulkhead.KindBadCSR, "the request is for the account's own key").WithHint("make a key of its own for the certificate")
	}
	return nil
}

func nameList(ids []bulkhead.Identifier) string {
	if len(ids) == 0 {
		return "nothing"
	}
	const most = 5
	var b strings.Builder
	for i, id := range ids {
		if i == most {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(id.Value)
	}
	return b.String()
}
