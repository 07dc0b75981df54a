package console

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bulkhead"
)

// Compromises blocks keys and revokes what holds them.
type Compromises interface {
	Compromise(ctx context.Context, c bulkhead.Compromise) (bulkhead.Compromise, error)
	KeyCompromise(ctx context.Context, key bulkhead.Hash) (c bulkhead.Compromise, left int, err error)
	CountKeyHolders(ctx context.Context, key bulkhead.Hash) (int, error)
	Compromises(ctx context.Context, limit int) ([]bulkhead.Compromise, error)
}

func (a *API) compromiseRoutes() {
	route(a, "POST /api/v1/compromises", operation[CompromiseRequest, CompromiseView]{id: "compromiseKey", do: a.compromise, plan: a.planCompromise,
		summary: "block a key for ever at once, and revoke for keyCompromise every certificate in force that holds it"})
	route(a, "GET /api/v1/compromises", operation[none, CompromiseList]{id: "listCompromises", summary: "compromised keys, newest first", do: a.compromises})
	route(a, "GET /api/v1/compromises/{key}", operation[none, CompromiseView]{id: "showCompromise", summary: "what became of the certificates on a compromised key", do: a.compromiseOf})
}

// CompromiseRequest names a key: by its hash, by its public key, or by a certificate that holds it. A private key is
// never sent: the command line takes the public half out of it.
type CompromiseRequest struct {
	KeySHA256   bulkhead.Hash `json:"key_sha256,omitempty"`  // of the DER SubjectPublicKeyInfo
	PublicKey   string        `json:"public_key,omitempty"`  // PEM or base64 DER SubjectPublicKeyInfo
	Certificate string        `json:"certificate,omitempty"` // PEM or base64 DER
	Reason      string        `json:"reason"`
}

func (in CompromiseRequest) key() (bulkhead.Hash, error) {
	given := 0
	for _, x := range []bool{!in.KeySHA256.IsZero(), in.PublicKey != "", in.Certificate != ""} {
		if x {
			given++
		}
	}
	usage := bulkhead.NewFault(bulkhead.KindUsage, "name one key: key_sha256, public_key or certificate").WithHint("bulkhead compromise key --cert FILE, --key FILE or --spki HEX")
	if given != 1 {
		return bulkhead.Hash{}, usage
	}
	switch {
	case in.Certificate != "":
		der, err := decodeDER(in.Certificate, "CERTIFICATE")
		if err != nil {
			return bulkhead.Hash{}, bulkhead.Faultf(bulkhead.KindMalformed, "certificate: %s", err).WithHint(usage.Hint)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return bulkhead.Hash{}, bulkhead.NewFault(bulkhead.KindMalformed, "the certificate cannot be read").WithHint(usage.Hint).WithCause(err)
		}
		return bulkhead.Digest(c.RawSubjectPublicKeyInfo), nil
	case in.PublicKey != "":
		if block, _ := pem.Decode([]byte(in.PublicKey)); block != nil && strings.Contains(block.Type, "PRIVATE") {
			return bulkhead.Hash{}, bulkhead.NewFault(bulkhead.KindMalformed, "that is a private key: it was not needed and is not kept").WithHint("send the public key: openssl pkey -in KEY -pubout")
		}
		der, err := decodeDER(in.PublicKey, "PUBLIC KEY")
		if err != nil {
			return bulkhead.Hash{}, bulkhead.Faultf(bulkhead.KindMalformed, "public_key: %s", err).WithHint(usage.Hint)
		}
		if _, err := x509.ParsePKIXPublicKey(der); err != nil {
			return bulkhead.Hash{}, bulkhead.NewFault(bulkhead.KindMalformed, "the public key cannot be read").WithHint(usage.Hint).WithCause(err)
		}
		return bulkhead.Digest(der), nil
	}
	return in.KeySHA256, nil
}

// CompromiseView is a compromise as people and programs read it.
type CompromiseView struct {
	KeySHA256 bulkhead.Hash `json:"key_sha256"`
	Actor     string        `json:"actor"`
	Reason    string        `json:"reason"`
	At        time.Time     `json:"at"`      // since when the key is blocked
	Revoked   int           `json:"revoked"` // certificates
	Left      int           `json:"left"`    // certificates in force that still hold the key
	Changes   []string      `json:"changes"` // the changes of status that carried the revocations
	SettledAt *time.Time    `json:"settled_at,omitempty"`
}

func compromiseView(c bulkhead.Compromise, left int) CompromiseView {
	v := CompromiseView{KeySHA256: c.KeyHash, Actor: c.Actor, Reason: c.Reason, At: c.At.UTC(), Revoked: c.Revoked, Left: left, Changes: append([]string{}, c.Changes...)}
	if !c.SettledAt.IsZero() {
		t := c.SettledAt.UTC()
		v.SettledAt = &t
	}
	return v
}

func (a *API) compromise(ctx context.Context, w who, _ *http.Request, in CompromiseRequest) (CompromiseView, error) {
	key, err := in.key()
	if err != nil {
		return CompromiseView{}, err
	}
	if _, err := a.cfg.Compromises.Compromise(ctx, bulkhead.Compromise{KeyHash: key, Actor: w.actor(), Reason: in.Reason}); err != nil {
		return CompromiseView{}, err
	}
	c, left, err := a.cfg.Compromises.KeyCompromise(ctx, key)
	return compromiseView(c, left), err
}

func (a *API) planCompromise(ctx context.Context, _ who, _ *http.Request, in CompromiseRequest) (Plan, error) {
	key, err := in.key()
	if err != nil {
		return Plan{}, err
	}
	n, err := a.cfg.Compromises.CountKeyHolders(ctx, key)
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("block the key %s for ever", key), fmt.Sprintf("revoke for keyCompromise the %d certificates in force that hold it", n)).
		butNot("whether it is the key of an authority, which is refused"), nil
}

// CompromiseList is the newest hundred.
type CompromiseList struct {
	Compromises []CompromiseView `json:"compromises"`
}

func (a *API) compromises(ctx context.Context, _ who, _ *http.Request, _ none) (CompromiseList, error) {
	rows, err := a.cfg.Compromises.Compromises(ctx, 100)
	out := CompromiseList{Compromises: []CompromiseView{}}
	for _, c := range rows {
		left, err := a.cfg.Compromises.CountKeyHolders(ctx, c.KeyHash)
		if err != nil {
			return out, err
		}
		out.Compromises = append(out.Compromises, compromiseView(c, left))
	}
	return out, err
}

func (a *API) compromiseOf(ctx context.Context, _ who, r *http.Request, _ none) (CompromiseView, error) {
	key, err := bulkhead.ParseHash(r.PathValue("key"))
	if err != nil {
		return CompromiseView{}, err
	}
	c, left, err := a.cfg.Compromises.KeyCompromise(ctx, key)
	return compromiseView(c, left), err
}
