package console_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/quorum"
	"bulkhead/run"
)

// house is a composed house on SQLite, with its API on no socket.
type house struct {
	api  http.Handler
	keys [2]ed25519.PrivateKey
	dir  string
}

// openHouse makes a first start of its own.
func openHouse(t *testing.T) *house {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	cfg := run.DefaultConfig()
	// Where nothing listens: CAA of the own names falls to "exempt" at once.
	cfg.Resolver = "127.0.0.1:1"
	if _, err := run.FirstStart(t.Context(), dir, cfg, nil); err != nil {
		t.Fatal(err)
	}
	cfg, err := run.LoadConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	h, err := run.Open(t.Context(), dir, cfg, slog.New(slog.DiscardHandler), "test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	x := &house{api: h.API(), dir: dir}
	for i, path := range []string{filepath.Join(dir, "operator", "operator-1.key"), filepath.Join(run.RootDir(dir), "operator-2.key")} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if x.keys[i], err = quorum.ParseKey(text); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// request is one call; header pairs follow.
func (h *house) request(t testing.TB, token, method, path, body string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader([]byte(body)))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	} else {
		sig, err := quorum.SignRequest(h.keys[0], method, path, []byte(body), time.Now(), rand.Text())
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", sig)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	return w
}

// call expects a status and decodes the answer.
func call[T any](t testing.TB, h *house, status int, method, path, body string, header ...string) T {
	t.Helper()
	w := h.request(t, "", method, path, body, header...)
	if w.Code != status {
		t.Fatalf("%s %s: %d, want %d: %s", method, path, w.Code, status, w.Body)
	}
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%s %s: %v: %s", method, path, err, w.Body)
	}
	return v
}

type problem struct {
	Title, Detail, Hint, Type string
	Status                    int
}

func csr(t testing.TB, names ...string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func doc(t testing.TB, v any) string {
	t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func (h *house) count(t testing.TB) int {
	t.Helper()
	return len(call[console.CertificateList](t, h, 200, "GET", "/api/v1/certificates?limit=1000", "").Certificates)
}

func TestIdempotency(t *testing.T) {
	h := openHouse(t)
	before := h.count(t)
	body := doc(t, map[string]string{"csr": csr(t, "www.example.test")})
	first := h.request(t, "", "POST", "/api/v1/certificates", body, "Idempotency-Key", "k-1")
	if first.Code != 200 || first.Header().Get("Idempotency-Replayed") != "" {
		t.Fatalf("%d %s", first.Code, first.Body)
	}
	again := h.request(t, "", "POST", "/api/v1/certificates", body, "Idempotency-Key", "k-1")
	if again.Code != 200 || !bytes.Equal(again.Body.Bytes(), first.Body.Bytes()) || again.Header().Get("Idempotency-Replayed") != "true" {
		t.Fatalf("the same request gave %d %v %s", again.Code, again.Header(), again.Body)
	}
	if n := h.count(t); n != before+1 {
		t.Fatalf("%d certificates, want %d", n, before+1)
	}
	// Another request, another path, with the same key: refused and nothing done.
	p := call[problem](t, h, 409, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "b.example.test")}), "Idempotency-Key", "k-1")
	if p.Title != "conflict" || p.Hint == "" {
		t.Fatalf("%+v", p)
	}
	call[problem](t, h, 409, "POST", "/api/v1/accounts", "", "Idempotency-Key", "k-1")
	// The key of another asker is another key.
	acct := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", "", "Idempotency-Key", "k-2")
	if w := h.request(t, acct.Token, "POST", "/api/v1/certificates", body, "Idempotency-Key", "k-1"); w.Code == 200 || w.Header().Get("Idempotency-Replayed") != "" {
		t.Fatalf("an account was given an operator's answer: %d %s", w.Code, w.Body)
	}
	// A definite refusal is an answer too.
	other := doc(t, map[string]string{"csr": csr(t, "www.example.com")})
	refused := h.request(t, "", "POST", "/api/v1/certificates", other, "Idempotency-Key", "k-3")
	replayed := h.request(t, "", "POST", "/api/v1/certificates", other, "Idempotency-Key", "k-3")
	if refused.Code != 400 || replayed.Code != 400 || replayed.Body.String() != refused.Body.String() || replayed.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%d %d %s", refused.Code, replayed.Code, replayed.Body)
	}
	for _, key := range []string{"", "with space", "ümlaut", string(bytes.Repeat([]byte("x"), 256))} {
		if p := call[problem](t, h, 400, "POST", "/api/v1/accounts", "", "Idempotency-Key", key); p.Title != "malformed" {
			t.Errorf("key %q: %+v", key, p)
		}
	}
}

// TestIdempotencyKeepsNoToken reads the record for the token that an answer held.
func TestIdempotencyKeepsNoToken(t *testing.T) {
	h := openHouse(t)
	acct := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", "", "Idempotency-Key", "a-secret-key")
	same := call[console.NewAccountResponse](t, h, 200, "POST", "/api/v1/accounts", "", "Idempotency-Key", "a-secret-key")
	if same != acct {
		t.Fatalf("%+v, then %+v", acct, same)
	}
	files, err := filepath.Glob(filepath.Join(h.dir, "bulkhead.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v %v", files, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(acct.Token)) || bytes.Contains(text, []byte("a-secret-key")) {
			t.Errorf("%s holds the token or the idempotency key", f)
		}
	}
}

// TestIdempotencyTogether sends one request many times at once: one certificate, one answer.
func TestIdempotencyTogether(t *testing.T) {
	h := openHouse(t)
	before := h.count(t)
	body := doc(t, map[string]string{"csr": csr(t, "www.example.test")})
	var wg sync.WaitGroup
	answers := make([]*httptest.ResponseRecorder, 8)
	for i := range answers {
		wg.Go(func() {
			answers[i] = h.request(t, "", "POST", "/api/v1/certificates", body, "Idempotency-Key", "together")
		})
	}
	wg.Wait()
	done := 0
	for _, w := range answers {
		switch {
		case w.Code == 200 && w.Body.String() == answers[0].Body.String():
			if w.Header().Get("Idempotency-Replayed") == "" {
				done++
			}
		case w.Code == 409 && w.Header().Get("Retry-After") != "":
		default:
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if n := h.count(t); n != before+1 || done != 1 {
		t.Fatalf("%d certificates, want %d; %d did it", n, before+1, done)
	}
}

// TestIdempotencyAfterCrash plants the claim of a process that died: its key serves the same request once the lease is
// over, and until then says when to try again.
func TestIdempotencyAfterCrash(t *testing.T) {
	h := openHouse(t)
	cfg, err := run.LoadConfig(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := run.OpenStore(t.Context(), h.dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		key   string
		lease time.Duration
		code  int
	}{{"lapsed", -time.Second, 200}, {"standing", time.Minute, 409}} {
		now := time.Now()
		claim := bulkhead.Reply{KeyHash: console.DigestOf("bulkhead reply v1", "operator:operator-1", c.key), Owner: "operator:operator-1", Holder: "dead",
			Request: console.DigestOf("bulkhead request v1", "POST", "/api/v1/accounts", ""), LeaseUntil: now.Add(c.lease), ExpiresAt: now.Add(time.Hour)}
		if _, err := s.ClaimReply(t.Context(), claim, now); err != nil {
			t.Fatal(err)
		}
		w := h.request(t, "", "POST", "/api/v1/accounts", "", "Idempotency-Key", c.key)
		if w.Code != c.code || (w.Header().Get("Retry-After") != "") != (c.code == 409) {
			t.Errorf("%s: %d %v %s", c.key, w.Code, w.Header(), w.Body)
		}
	}
}

func TestDryRun(t *testing.T) {
	h := openHouse(t)
	issued := call[console.IssueResponse](t, h, 200, "POST", "/api/v1/certificates", doc(t, map[string]string{"csr": csr(t, "old.example.test")}))
	serial := issued.Certificate.Serial.String()
	before := h.evidence(t)
	pub := h.keys[0].Public().(ed25519.PublicKey)
	fresh, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, method, path string
		in                 any
		status             int
	}{
		{"issue", "POST", "/api/v1/certificates", map[string]any{"csr": csr(t, "www.example.test")}, 200},
		{"issue a foreign name", "POST", "/api/v1/certificates", map[string]any{"csr": csr(t, "www.example.com")}, 400},
		{"issue an unknown profile", "POST", "/api/v1/certificates", map[string]any{"csr": csr(t, "www.example.test"), "profile": "gold"}, 400},
		{"issue by an unknown authority", "POST", "/api/v1/certificates", map[string]any{"csr": csr(t, "www.example.test"), "authority": "nobody"}, 404},
		{"issue by the root", "POST", "/api/v1/certificates", map[string]any{"csr": csr(t, "www.example.test"), "authority": "root"}, 404},
		{"add an authority", "POST", "/api/v1/authorities", console.AddAuthorityRequest{ID: "third", Algorithm: "p256", CommonName: "Third"}, 200},
		{"add one that exists", "POST", "/api/v1/authorities", console.AddAuthorityRequest{ID: "issuing-p256", Algorithm: "p256"}, 409},
		{"rotate", "POST", "/api/v1/authorities", console.AddAuthorityRequest{ID: "issuing-p256-g2", Algorithm: "p256", Predecessor: "issuing-p256"}, 200},
		{"accept for one that does not wait", "POST", "/api/v1/authorities/issuing-p256/certificate", console.AcceptAuthorityRequest{Certificate: issued.PEM}, 409},
		{"add an account", "POST", "/api/v1/accounts", map[string]any{}, 200},
		{"add an operator", "POST", "/api/v1/operators", console.OperatorRequest{Name: "carol", PublicKey: fresh, Reason: "third"}, 200},
		{"add an operator without reason", "POST", "/api/v1/operators", console.OperatorRequest{Name: "carol", PublicKey: fresh}, 400},
		{"add a key twice", "POST", "/api/v1/operators", console.OperatorRequest{Name: "carol", PublicKey: pub, Reason: "again"}, 409},
		{"remove one of two operators", "DELETE", "/api/v1/operators/operator-1?reason=left", map[string]any{}, 409},
		{"block a key", "POST", "/api/v1/keys/block", console.BlockKeyRequest{KeySHA256: issued.Certificate.KeySHA256, Reason: "found"}, 200},
		{"block no key", "POST", "/api/v1/keys/block", console.BlockKeyRequest{}, 400},
		{"revoke for a wrong reason", "POST", "/api/v1/certificates/" + serial + "/revoke", console.RevokeRequest{Reason: "bored"}, 400},
		{"revoke what is not there", "POST", "/api/v1/certificates/0102/revoke", console.RevokeRequest{}, 404},
		{"approve what is not there", "POST", "/api/v1/approvals/none", console.ApproveRequest{}, 404},
		{"activate what is not there", "POST", "/api/v1/changes/none/approval", map[string]any{}, 404},
	} {
		body := doc(t, c.in)
		asQuery := "?dry_run=true"
		if bytes.ContainsRune([]byte(c.path), '?') {
			asQuery = "&dry_run=true"
		}
		inBody := `{"dry_run":true,` + body[1:]
		if body == "{}" {
			inBody = `{"dry_run":true}`
		}
		for _, w := range []*httptest.ResponseRecorder{h.request(t, "", c.method, c.path+asQuery, body), h.request(t, "", c.method, c.path, inBody)} {
			var p console.Plan
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != c.status || p.DryRun != (c.status == 200) || (len(p.Would) > 0) != (c.status == 200) {
				t.Errorf("%s: %d, want %d: %s", c.what, w.Code, c.status, w.Body)
			}
		}
	}
	if after := h.evidence(t); after != before {
		t.Errorf("dry runs left evidence: %d rows, then %d", before, after)
	}
	if h.request(t, "", "POST", "/api/v1/accounts?dry_run=perhaps", "").Code != 400 || h.request(t, "", "POST", "/api/v1/accounts", `{"dry_run":"yes"}`).Code != 400 {
		t.Error("dry_run is neither true nor false, and was taken")
	}
	// The change of a revocation stands previewed; nothing is revoked.
	p := call[console.Plan](t, h, 200, "POST", "/api/v1/certificates/"+serial+"/revoke", `{"dry_run":true,"reason":"keyCompromise"}`)
	if p.Change == nil || p.Change.State != "previewed" || len(p.Would) != 2 {
		t.Fatalf("%+v", p)
	}
	if v := call[console.CertificateView](t, h, 200, "GET", "/api/v1/certificates/"+serial, ""); v.State != "issued" || v.ChainPEM == "" || v.RootPEM == "" {
		t.Fatalf("%+v", v)
	}
	if p := call[console.Plan](t, h, 200, "POST", "/api/v1/changes/"+p.Change.ID+"/approval", `{"dry_run":true}`); len(p.Would) != 1 {
		t.Fatalf("%+v", p)
	}
}

// TestDryRunApprove signs once for show and once in earnest.
func TestDryRunApprove(t *testing.T) {
	h := openHouse(t)
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	q := call[console.ApprovalView](t, h, 200, "POST", "/api/v1/operators", doc(t, console.OperatorRequest{Name: "carol", PublicKey: pub, Reason: "third"}))
	for i, key := range h.keys {
		in := doc(t, approval(key, q))
		p := call[console.Plan](t, h, 200, "POST", "/api/v1/approvals/"+q.ID+"?dry_run=1", in)
		if len(p.Would) != i+1 {
			t.Fatalf("%+v", p)
		}
		v := call[console.ApprovalView](t, h, 200, "POST", "/api/v1/approvals/"+q.ID, in)
		if len(v.Approvals) != i+1 {
			t.Fatalf("%+v", v)
		}
		if code := h.request(t, "", "POST", "/api/v1/approvals/"+q.ID+"?dry_run=1", in).Code; code != 409 {
			t.Fatalf("a second approval by one operator: %d", code)
		}
	}
}

// evidence is how much the record says, by the newest intent of a certificate and the number of requests and accounts.
func (h *house) evidence(t testing.TB) int64 {
	t.Helper()
	cfg, err := run.LoadConfig(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := run.OpenStore(t.Context(), h.dir, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rows, err := s.EvidenceAfter(t.Context(), 0, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(rows))
}

func approval(key ed25519.PrivateKey, q console.ApprovalView) console.ApproveRequest {
	return console.ApproveRequest{KeySHA256: bulkhead.Digest(key.Public().(ed25519.PublicKey)),
		Signature: quorum.SignApproval(key, bulkhead.ApprovalRequest{ID: q.ID, Action: q.Action, Payload: q.Payload})}
}
