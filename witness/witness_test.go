package witness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"bulkhead"
	"bulkhead/pki/sct"
	ours "bulkhead/pki/tlog"
	"bulkhead/test/foreign"
)

const origin = "log.test/evidence"

// history is a log in memory, of leaves that bear its name.
type history struct {
	name   string
	hashes []tlog.Hash
	n      int64
}

func (h *history) ReadHashes(at []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(at))
	for i, x := range at {
		out[i] = h.hashes[x]
	}
	return out, nil
}

func (h *history) grow(t testing.TB, n int64) {
	t.Helper()
	for h.n < n {
		more, err := tlog.StoredHashes(h.n, fmt.Append(nil, h.name, h.n), h)
		if err != nil {
			t.Fatal(err)
		}
		h.hashes, h.n = append(h.hashes, more...), h.n+1
	}
}

// request is an add-checkpoint of size leaves for a witness that knows old.
func (h *history) request(t testing.TB, s note.Signer, old, size int64) ours.AddCheckpoint {
	t.Helper()
	h.grow(t, size)
	root, err := tlog.TreeHash(size, h)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: ours.Checkpoint{Origin: s.Name(), Size: size, Root: bulkhead.Hash(root)}.Body()}, s)
	if err != nil {
		t.Fatal(err)
	}
	a := ours.AddCheckpoint{Old: old, Note: signed}
	if old > 0 && old < size {
		proof, err := tlog.ProveTree(size, old, h)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range proof {
			a.Proof = append(a.Proof, bulkhead.Hash(p))
		}
	}
	return a
}

func logKey(t testing.TB, name string) (note.Signer, note.Verifier) {
	t.Helper()
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err1 := note.NewSigner(private)
	v, err2 := note.NewVerifier(public)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return s, v
}

func open(t testing.TB, dir string, logs ...note.Verifier) *Witness {
	t.Helper()
	c, err := ReadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Config{Dir: dir, Cosigner: c, Logs: logs, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func newDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := NewKey(dir, "witness.test/1"); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAddCheckpoint: each answer of C2SP tlog-witness over HTTP, and nothing is forgotten over a new start.
func TestAddCheckpoint(t *testing.T) {
	t.Parallel()
	s, v := logKey(t, origin)
	stranger, _ := logKey(t, origin)
	unknown, _ := logKey(t, "other.test")
	dir := newDir(t)
	w := open(t, dir, v)
	server := httptest.NewServer(w)
	defer server.Close()
	client := http.Client{Timeout: 10 * time.Second}
	a, b := &history{name: "a"}, &history{name: "b"}
	post := func(body []byte) (int, string, string) {
		t.Helper()
		res, err := client.Post(server.URL+"/add-checkpoint", "text/plain", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header.Get("Content-Type"), string(text)
	}
	wrongProof := a.request(t, s, 5, 9)
	wrongProof.Proof[0][0] ^= 1
	for _, c := range []struct {
		what string
		body []byte
		want int
		size string
	}{
		{"nonsense", []byte("old x\n\n"), 400, ""},
		{"too long", []byte(strings.Repeat("x", ours.MaxAddCheckpoint+1)), 413, ""},
		{"an unknown log", a.request(t, unknown, 0, 5).Marshal(), 404, ""},
		{"another key", a.request(t, stranger, 0, 5).Marshal(), 403, ""},
		{"a size that it has not seen", a.request(t, s, 3, 5).Marshal(), 409, "0\n"},
		{"the first", a.request(t, s, 0, 5).Marshal(), 200, ""},
		{"from nothing again", a.request(t, s, 0, 5).Marshal(), 409, "5\n"},
		{"the same", a.request(t, s, 5, 5).Marshal(), 200, ""},
		{"old above new", a.request(t, s, 5, 4).Marshal(), 400, ""},
		{"another root of that size", b.request(t, s, 5, 5).Marshal(), 409, ""},
		{"another history", b.request(t, s, 5, 9).Marshal(), 422, ""},
		{"a wrong proof", wrongProof.Marshal(), 422, ""},
		{"the next", a.request(t, s, 5, 9).Marshal(), 200, ""},
		{"a step back", a.request(t, s, 5, 7).Marshal(), 409, "9\n"},
	} {
		code, kind, text := post(c.body)
		if code != c.want || c.size != "" && (text != c.size || kind != SizeType) || c.size == "" && kind == SizeType {
			t.Errorf("%s: %d %s %q", c.what, code, kind, text)
		}
		if code != 200 {
			continue
		}
		req, err := ours.ParseAddCheckpoint(c.body)
		if err != nil {
			t.Fatal(err)
		}
		if _, sigs, err := ours.Cosignatures(append(req.Note, text...), origin, v, []*ours.Witness{w.cfg.Cosigner.Witness}); err != nil || len(sigs) != 1 {
			t.Errorf("%s: %q: %v", c.what, text, err)
		}
	}
	if _, err := New(w.cfg); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("a second process: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir, v)
	if cp, ok := again.Known(origin); !ok || cp.Size != 9 {
		t.Errorf("after a new start: %+v", cp)
	}
	if _, err := again.Add(b.request(t, s, 0, 5).Marshal()); err == nil {
		t.Error("it forgot")
	}
}

// TestForgetful: a witness whose file is damaged does not start over.
func TestForgetful(t *testing.T) {
	t.Parallel()
	s, v := logKey(t, origin)
	dir := newDir(t)
	w := open(t, dir, v)
	if _, err := w.Add((&history{name: "a"}).request(t, s, 0, 5).Marshal()); err != nil {
		t.Fatal(err)
	}
	path := w.logs[origin].path
	if err := errors.Join(w.Close(), os.WriteFile(path, []byte("x"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := New(w.cfg); bulkhead.KindOf(err) != bulkhead.KindConflict || bulkhead.AsFault(err).Hint == "" {
		t.Errorf("%v", err)
	}
	if _, err := New(Config{Dir: dir, Cosigner: w.cfg.Cosigner, Logs: []note.Verifier{v, v}, Now: time.Now}); bulkhead.KindOf(err) == "" {
		t.Error("two keys of one log")
	}
}

// TestDurableFirst: nothing is cosigned that could not be made durable.
func TestDurableFirst(t *testing.T) {
	t.Parallel()
	s, v := logKey(t, origin)
	dir := newDir(t)
	w := open(t, dir, v)
	a := &history{name: "a"}
	if _, err := w.Add(a.request(t, s, 0, 5).Marshal()); err != nil {
		t.Fatal(err)
	}
	k := w.logs[origin]
	good := k.path
	k.path = filepath.Join(dir, "absent", "file") // as if the disk took nothing
	if line, err := w.Add(a.request(t, s, 5, 9).Marshal()); err == nil || line != "" {
		t.Errorf("cosigned %q", line)
	}
	k.path = good
	if _, err := w.Add(a.request(t, s, 5, 9).Marshal()); err != nil {
		t.Errorf("when the disk is back: %v", err)
	}
}

// TestRace: of two histories that come at once, one is cosigned.
func TestRace(t *testing.T) {
	t.Parallel()
	s, v := logKey(t, origin)
	w := open(t, newDir(t), v)
	a, b := &history{name: "a"}, &history{name: "b"}
	if _, err := w.Add(a.request(t, s, 0, 1).Marshal()); err != nil {
		t.Fatal(err)
	}
	b.hashes, b.n = append(b.hashes, a.hashes[:1]...), 1
	var wg sync.WaitGroup
	var lines [2]string
	for i, body := range [][]byte{a.request(t, s, 1, 8).Marshal(), b.request(t, s, 1, 8).Marshal()} {
		wg.Go(func() { lines[i], _ = w.Add(body) })
	}
	wg.Wait()
	if (lines[0] == "") == (lines[1] == "") {
		t.Errorf("%q", lines)
	}
}

// TestKey: a key is made once, is nobody else's to read, and a policy takes it.
func TestKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := ReadKey(dir); bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Errorf("no key: %v", err)
	}
	if _, err := NewKey(dir, "a b"); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("a name with a space: %v", err)
	}
	text, err := NewKey(dir, "w.test")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKey(dir, "w.test"); bulkhead.KindOf(err) != bulkhead.KindConflict {
		t.Errorf("twice: %v", err)
	}
	c, err := ReadKey(dir)
	if err != nil || c.String() != text {
		t.Errorf("%v %v", c, err)
	}
	if _, err := ours.ParsePolicy("witness w " + text + " http://127.0.0.1:1\nquorum w\n"); err != nil {
		t.Error(err)
	}
	path := filepath.Join(dir, keyFile)
	for mode, want := range map[os.FileMode]bulkhead.Kind{0o640: bulkhead.KindForbidden, 0o600: bulkhead.KindMalformed} {
		if err := errors.Join(os.WriteFile(path, []byte("x"), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(dir); bulkhead.KindOf(err) != want {
			t.Errorf("%o: %v", mode, err)
		}
	}
}

// TestGenuineLog: TesseraCT, a log by others, has its checkpoints cosigned by our witness.
func TestGenuineLog(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	c, err := ReadKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	var handler http.Handler
	var mu sync.Mutex
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := handler
		mu.Unlock()
		if h == nil {
			http.Error(rw, "not yet", http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(rw, r)
	}))
	defer server.Close()
	root := selfSigned(t)
	log := foreign.TesseraCT(t, root.pem, "witness w "+c.String()+" "+server.URL+"/\nquorum w\n")
	v, err := sct.NewLogVerifier(log.Origin, log.Key)
	if err != nil {
		t.Fatal(err)
	}
	w, err := New(Config{Dir: dir, Cosigner: c, Logs: []note.Verifier{v}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	mu.Lock()
	handler = w
	mu.Unlock()
	root.submit(t, log, "genuine.test")
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		signed, err := os.ReadFile(filepath.Join(log.Dir, "checkpoint"))
		if err == nil {
			if cp, sigs, err := ours.Cosignatures(signed, log.Origin, v, []*ours.Witness{c.Witness}); err == nil && cp.Size > 0 && len(sigs) == 1 {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatalf("not cosigned: %s", signed)
		}
	}
}

// authority is a root whose certificates a log takes.
type authority struct {
	pem  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func selfSigned(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert: cert, key: key}
}

// submit gives a new certificate to a log.
func (a *authority) submit(t testing.TB, l foreign.Log, name string) {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string][][]byte{"chain": {der, a.cert.Raw}})
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: 20 * time.Second}
	res, err := client.Post(l.URL+"/ct/v1/add-chain", "application/json", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%d %s %v", res.StatusCode, text, err)
	}
}
