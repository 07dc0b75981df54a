package signin_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/approval"
	"bulkhead/run"
)

// TestAttestation: where the house asks for it, a security key is registered when a trusted maker's certificate signed for
// exactly this registration, and otherwise refused: vouched for by nobody, by itself, by a maker of its own, by a stolen
// certificate, or by a maker whose certificate has ended. The approvers see who vouches.
func TestAttestation(t *testing.T) {
	t.Parallel()
	good, stranger := newMaker(t, "Blue KK"), newMaker(t, "Blue KK")
	file := filepath.Join(t.TempDir(), "makers.pem")
	ok(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.root}), 0o644))
	h := newHouse(t, func(c *run.Config) { c.SignIn.Attestation = &run.SignInAttestation{Trust: []string{file}} })
	ended := newMaker(t, "Blue KK", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	stolen := &maker{root: good.root, cert: good.cert, key: stranger.key}
	token := h.invite("carol", "revoker")
	register := func(m *maker, spoil ...func(*touch)) (int, []byte, string) {
		t.Helper()
		k := newSecurityKey(t, h.site)
		k.maker = m
		b := must[struct {
			begun
			PublicKey struct {
				Challenge   string `json:"challenge"`
				Attestation string `json:"attestation"`
			} `json:"public_key"`
		}](h, h.browser(), http.MethodPost, "/signin/register/begin", map[string]string{"token": token})
		code, body := h.call(h.browser(), http.MethodPost, "/signin/register/finish", map[string]any{"token": token, "id": b.ID, "label": "blue", "response": k.create(b.PublicKey.Challenge, spoil...)})
		return code, body, b.PublicKey.Attestation
	}
	for says, x := range map[string]struct {
		maker *maker
		spoil func(*touch)
	}{
		"does not vouch for it":          {nil, func(*touch) {}},
		"vouches for itself alone":       {nil, func(x *touch) { x.self = true }},
		"none whom the house trusts":     {stranger, func(*touch) {}},
		"the security key cannot be reg": {stolen, func(*touch) {}},
		"cannot be registered":           {ended, func(*touch) {}},
	} {
		code, body, asked := register(x.maker, x.spoil)
		h.refused(code, body, bulkhead.KindUnauthorized, says)
		if asked != "direct" {
			t.Errorf("the browser is asked for attestation %q", asked)
		}
	}
	code, body, _ := register(good)
	request := h.vouchedFor(code, body, "Blue KK")
	if r := h.sign(request, h.keys[:]...); r.State != bulkhead.RequestExecuted {
		t.Errorf("the request is %s", r.State)
	}
}

// TestAttestationU2F: a key that vouches as FIDO U2F keys do is registered when a trusted maker's certificate signed for exactly
// this registration, and refused when any part of what was signed is another, or the statement is none of that format.
func TestAttestationU2F(t *testing.T) {
	t.Parallel()
	good, stranger := newMaker(t, "Red KK"), newMaker(t, "Red KK")
	file := filepath.Join(t.TempDir(), "makers.pem")
	ok(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.root}), 0o644))
	h := newHouse(t, func(c *run.Config) { c.SignIn.Attestation = &run.SignInAttestation{Trust: []string{file}} })
	token := h.invite("carol", "revoker")
	register := func(m *maker, u *u2f, spoil ...func(*touch)) (int, []byte) {
		t.Helper()
		k := newSecurityKey(t, h.site)
		k.maker, k.u2f = m, u
		b := must[begun](h, h.browser(), http.MethodPost, "/signin/register/begin", map[string]string{"token": token})
		return h.call(h.browser(), http.MethodPost, "/signin/register/finish", map[string]any{"token": token, "id": b.ID, "label": "red", "response": k.create(b.PublicKey.Challenge, spoil...)})
	}
	other := func(n int) []byte { return bytes.Repeat([]byte{4}, n) }
	another, err := newSecurityKey(t, h.site).key.PublicKey.Bytes()
	ok(t, err)
	for what, x := range map[string]struct {
		maker *maker
		forge func(*u2f)
	}{
		"a stolen certificate":       {&maker{root: good.root, cert: good.cert, key: stranger.key}, nil},
		"a maker whom nobody trusts": {stranger, nil},
		"the reserved octet":         {good, func(x *u2f) { x.reserved = 1 }},
		"another site":               {good, func(x *u2f) { x.rpIDHash = other(32) }},
		"another challenge":          {good, func(x *u2f) { x.clientHash = other(32) }},
		"another handle":             {good, func(x *u2f) { x.id = other(len(x.id)) }},
		"another key":                {good, func(x *u2f) { x.public = another }},
		"no certificate":             {good, func(x *u2f) { x.certs = nil }},
		"two certificates":           {good, func(x *u2f) { x.certs = append(x.certs, good.root) }},
		"no certificate at all":      {good, func(x *u2f) { x.certs[0] = other(40) }},
	} {
		code, body := register(x.maker, &u2f{forge: x.forge})
		if code == http.StatusOK {
			t.Errorf("%s: registered: %s", what, body)
		}
		h.refused(code, body, bulkhead.KindUnauthorized, "")
	}
	code, body := register(good, &u2f{aaguid: [16]byte{1}})
	h.refused(code, body, bulkhead.KindUnauthorized, "")
	code, body = register(good, &u2f{})
	h.vouchedFor(code, body, "Red KK")
}

// TestAttestationConfig: a policy that trusts nobody, or files that hold no certificate, is refused at the start.
func TestAttestationConfig(t *testing.T) {
	t.Parallel()
	cfg := run.DefaultConfig()
	cfg.SignIn.Attestation = &run.SignInAttestation{}
	if err := cfg.Check(); bulkhead.KindOf(err) != bulkhead.KindUsage || !strings.Contains(err.Error(), "sign_in.attestation.trust") {
		t.Errorf("%v", err)
	}
	dir := filepath.Join(t.TempDir(), "data")
	_, err := run.FirstStart(t.Context(), dir, run.DefaultConfig(), nil)
	ok(t, err)
	for name, text := range map[string]string{"empty.pem": "nothing", "bad.pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "": ""} {
		if name != "" {
			ok(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
		} else {
			name = "missing.pem"
		}
		cfg, err := run.LoadConfig(dir)
		ok(t, err)
		cfg.SignIn.Attestation = &run.SignInAttestation{Trust: []string{name}}
		open, err := run.OpenWith(t.Context(), run.Options{Dir: dir, Config: cfg})
		if bulkhead.KindOf(err) != bulkhead.KindUsage || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		_ = open
	}
}

// vouchedFor asserts that a registration was taken up, and that its approvers see whose word it rests on; it returns the request.
func (h *house) vouchedFor(code int, body []byte, maker string) string {
	h.t.Helper()
	var got struct{ Request string }
	if code != http.StatusOK || json.Unmarshal(body, &got) != nil {
		h.t.Fatalf("a trusted maker's key: %d %s", code, body)
	}
	r, err := h.Quorum.Request(h.t.Context(), got.Request)
	ok(h.t, err)
	var p approval.OperatorPayload
	ok(h.t, json.Unmarshal(r.Payload, &p))
	if p.SecurityKey == nil || !strings.Contains(p.SecurityKey.Attested, "CN="+maker+" Blue") || !strings.Contains(p.SecurityKey.Attested, "under CN="+maker+" Root") {
		h.t.Errorf("the approvers see %+v", p.SecurityKey)
	}
	return got.Request
}
