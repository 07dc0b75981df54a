package dcv

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"bulkhead"
)

// blind is a validator that sees what the name says, without a network.
type blind struct{}

func (blind) Validate(_ context.Context, id bulkhead.Identifier, _ bulkhead.Method, _, _ string) (string, error) {
	if id.Check() != nil {
		return "", bulkhead.NewFault(bulkhead.KindDNS, "no such name")
	}
	return "seen", nil
}

func (blind) CheckCAA(_ context.Context, id bulkhead.Identifier, _ bool, _ string, _ bulkhead.Method) (bulkhead.CAACheck, error) {
	return bulkhead.CAACheck{Identifier: id, Result: bulkhead.CAAPermitted}, id.Check()
}

// FuzzLook: whatever is sent to a perspective is answered by a look or refused.
func FuzzLook(f *testing.F) {
	h, err := NewPerspective(PerspectiveConfig{Validator: blind{}, Token: sharedToken})
	if err != nil {
		f.Fatal(err)
	}
	for _, q := range []lookRequest{{}, {Identifier: dnsName("a.test"), Method: bulkhead.HTTP01, Token: "t", KeyAuthorization: "t.k"},
		{Identifier: dnsName("*.a.test"), CAA: true, Wildcard: true, AccountURI: "https://ca.test/acme/account/a"}} {
		body, err := json.Marshal(q)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Add([]byte(`{"identifier":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, LookPath, bytes.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+sharedToken)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var a lookAnswer
		if w.Code != http.StatusBadRequest && (w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), &a) != nil) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// FuzzAnswer: whatever a perspective answers, a refusal or nonsense corroborates nothing.
func FuzzAnswer(f *testing.F) {
	answer := make(chan []byte, 1)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(<-answer) }))
	f.Cleanup(srv.Close)
	remotes := []Remote{{Name: "one", URL: srv.URL, RIR: "ARIN", Token: sharedToken, Certificate: srv.Certificate()}}
	c, err := NewCorroborator(CorroboratorConfig{Primary: blind{}, Remotes: remotes, Now: func() time.Time { return time.Date(2025, 4, 1, 0, 0, 0, 0, time.UTC) }})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"seen":true,"detail":"seen"}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"detail":"no","kind":"dns"}`))
	f.Add([]byte(`{"detail":"x","caa":"permitted"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, caa := range []bool{false, true} {
			answer <- body
			a, err := c.askOne(t.Context(), 0, lookRequest{Identifier: dnsName("a.test"), CAA: caa})
			if (seen{answer: a, err: err, caa: caa}).corroborates() && (!a.Seen || a.Kind != "" || caa != (a.CAA == bulkhead.CAAPermitted)) {
				t.Errorf("%q corroborates", body)
			}
		}
	})
}

// FuzzRequest: what is written to wherever a redirect leads is what net/http would write, octet for octet.
func FuzzRequest(f *testing.F) {
	v, err := New(Config{Resolver: "127.0.0.1:53", CAAIdentities: []string{"ca.test"}, Now: time.Now})
	if err != nil {
		f.Fatal(err)
	}
	for _, u := range []string{"http://www.site.test/.well-known/acme-challenge/x", "http://www.site.test:80", "http://WWW.site.test.:/a b?c d#e", "http://[2001:db8::1]:80/%0d%0aX:%20y",
		"http://192.0.2.1?\xff", "http://site.test//x/../y", "http://[fe80::1%25eth0]/", "https://site.test/"} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, text string) {
		h, err := v.parseHop(text)
		if err != nil {
			return
		}
		req, err := newProbe(t.Context(), h)
		if err != nil {
			t.Fatalf("%q is admitted: %v", text, err)
		}
		req.Close = true
		var b bytes.Buffer
		if err := req.Write(&b); err != nil {
			t.Fatalf("%q is admitted: %v", text, err)
		}
		if got := h.request(); got != b.String() {
			t.Errorf("%q\nnot %q", got, b.String())
		}
	})
}
