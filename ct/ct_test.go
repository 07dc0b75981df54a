package ct

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/sct"
)

// server is an RFC 6962 log as far as submissions go: it checks the chain, signs with its key, and can misbehave.
type server struct {
	t     testing.TB
	key   *ecdsa.PrivateKey
	log   Log
	asked atomic.Int64
	bend  func(w http.ResponseWriter, r *http.Request, s *sct.SCT) bool // true: it has answered
}

func newServer(t testing.TB, operator string, tiled bool) *server {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	ok(t, err)
	s := &server{t: t, key: key}
	web := httptest.NewServer(s)
	t.Cleanup(web.Close)
	s.log = Log{Log: sct.Log{Name: operator + fmt.Sprint(tiled), Operator: operator, Key: spki, Tiled: tiled}, URL: web.URL + "/2027h1/"}
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked.Add(1)
	var in struct {
		Chain [][]byte `json:"chain"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/2027h1/ct/v1/add-pre-chain" || json.Unmarshal(body, &in) != nil || len(in.Chain) < 2 {
		http.Error(w, "bad submission", http.StatusBadRequest)
		return
	}
	issuerKey, tbs, err := entry(in.Chain)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	stamp := sct.SCT{LogID: s.log.ID(), Timestamp: uint64(time.Now().UnixMilli()), Hash: 4, Sig: 3}
	if s.log.Tiled {
		stamp.Extensions = []byte{0, 0, 5, 0, 0, 0, 1, 2}
	}
	signed, err := sct.SignedPrecert(stamp, issuerKey, tbs)
	ok(s.t, err)
	digest := sha256.Sum256(signed)
	stamp.Signature, err = ecdsa.SignASN1(rand.Reader, s.key, digest[:])
	ok(s.t, err)
	if s.bend != nil && s.bend(w, r, &stamp) {
		return
	}
	answer(w, stamp)
}

func answer(w http.ResponseWriter, s sct.SCT) {
	value := append([]byte{s.Hash, s.Sig, byte(len(s.Signature) >> 8), byte(len(s.Signature))}, s.Signature...)
	json.NewEncoder(w).Encode(map[string]any{"sct_version": 0, "id": base64.StdEncoding.EncodeToString(s.LogID[:]), "timestamp": s.Timestamp,
		"extensions": base64.StdEncoding.EncodeToString(s.Extensions), "signature": base64.StdEncoding.EncodeToString(value)})
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func chain(t testing.TB) [][]byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ok(t, err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA"}, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(3e9, 0), IsCA: true, BasicConstraintsValid: true}
	root, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	ok(t, err)
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"a.test"}, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(3e9, 0), ExtraExtensions: []pkix.Extension{sct.Poison()}}
	pre, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	ok(t, err)
	return [][]byte{pre, root}
}

func client(t testing.TB, servers ...*server) *Client {
	c := Config{Now: time.Now, Timeout: 700 * time.Millisecond, AllowPrivate: true}
	for _, s := range servers {
		c.Logs = append(c.Logs, s.log)
	}
	got, err := New(c)
	ok(t, err)
	return got
}

// TestMisbehaviour: a log that misbehaves is passed over for the next; with nobody left there are no timestamps.
func TestMisbehaviour(t *testing.T) {
	pre := chain(t)
	for what, bend := range map[string]func(http.ResponseWriter, *http.Request, *sct.SCT) bool{
		"wrong signature": func(_ http.ResponseWriter, _ *http.Request, s *sct.SCT) bool { s.Signature[9] ^= 1; return false },
		"other log":       func(_ http.ResponseWriter, _ *http.Request, s *sct.SCT) bool { s.LogID[0] ^= 1; return false },
		"future": func(_ http.ResponseWriter, _ *http.Request, s *sct.SCT) bool {
			s.Timestamp += uint64(time.Hour.Milliseconds())
			return false
		},
		"500":        func(w http.ResponseWriter, _ *http.Request, _ *sct.SCT) bool { w.WriteHeader(500); return true },
		"always 503": func(w http.ResponseWriter, _ *http.Request, _ *sct.SCT) bool { w.WriteHeader(503); return true },
		"slow": func(_ http.ResponseWriter, r *http.Request, _ *sct.SCT) bool {
			select {
			case <-r.Context().Done():
			case <-time.After(2 * time.Second):
			}
			return true
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request, _ *sct.SCT) bool { io.WriteString(w, "hello"); return true },
		"endless": func(w http.ResponseWriter, _ *http.Request, _ *sct.SCT) bool {
			io.WriteString(w, strings.Repeat(" ", maxAnswer+1))
			return true
		},
		"redirect": func(w http.ResponseWriter, r *http.Request, _ *sct.SCT) bool {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
			return true
		},
	} {
		good, bad, spare := newServer(t, "A", false), newServer(t, "B", false), newServer(t, "B", true)
		bad.bend = bend
		if _, err := client(t, good, bad).AddPreChain(t.Context(), pre, time.Now(), 2); bulkhead.KindOf(err) != bulkhead.KindUnavailable || bulkhead.AsFault(err).Hint == "" {
			t.Errorf("%s: %v", what, err)
		}
		list, err := client(t, good, bad, spare).AddPreChain(t.Context(), pre, time.Now(), 2)
		if err != nil || len(list) != 2 {
			t.Errorf("%s: the spare log did not help: %v", what, err)
		}
		for _, s := range list {
			if s.LogID == spare.log.ID() && len(s.Extensions) != 8 {
				t.Errorf("%s: the extension of the tiled log is gone", what)
			}
		}
	}
}

// TestChoice: two operators and a log that is not tiled, logs for these dates only, and one more try for "later".
func TestChoice(t *testing.T) {
	pre := chain(t)
	a, a2, b, c := newServer(t, "A", false), newServer(t, "A", false), newServer(t, "B", true), newServer(t, "C", true)
	for what, x := range map[string]struct {
		servers []*server
		good    bool
	}{"two operators": {[]*server{a, b}, true}, "one operator": {[]*server{a, a2}, false}, "tiled only": {[]*server{b, c}, false}} {
		if _, err := client(t, x.servers...).AddPreChain(t.Context(), pre, time.Now(), 2); (err == nil) != x.good {
			t.Errorf("%s: %v", what, err)
		}
	}
	over := newServer(t, "D", false)
	over.log.Until = time.Now().Add(-time.Hour)
	if _, err := client(t, over, b).AddPreChain(t.Context(), pre, time.Now(), 2); err == nil || over.asked.Load() != 0 {
		t.Errorf("a log was asked about dates that it does not take: %v", err)
	}
	a.asked.Store(0)
	a.bend = func(w http.ResponseWriter, _ *http.Request, _ *sct.SCT) bool {
		if a.asked.Load() == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		return false
	}
	if _, err := client(t, a, b).AddPreChain(t.Context(), pre, time.Now(), 2); err != nil {
		t.Errorf("one 503: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client(t, a, b).AddPreChain(ctx, pre, time.Now(), 2); err == nil {
		t.Error("given up, and timestamps all the same")
	}
	if _, err := client(t, a, b).AddPreChain(t.Context(), pre[:1], time.Now(), 2); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Errorf("no issuer: %v", err)
	}
}

// TestGuards: addresses are the configuration's, over https, on the public network.
func TestGuards(t *testing.T) {
	for u, private := range map[string]bool{"http://ct.example.com/": false, "ftp://x/": true, "https://u@x/": true, "https:///": true, "https://x/?q": true} {
		if _, err := New(Config{Now: time.Now, Logs: []Log{{URL: u}}, AllowPrivate: private}); bulkhead.KindOf(err) != bulkhead.KindUsage {
			t.Errorf("%s: %v", u, err)
		}
	}
	if _, err := New(Config{}); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("empty: %v", err)
	}
	for a, good := range map[string]bool{"127.0.0.1:1": false, "10.0.0.1:1": false, "[::1]:1": false, "169.254.169.254:80": false, "[::ffff:10.0.0.1]:1": false, "100.64.0.1:1": false, "100.100.100.200:80": false, "[64:ff9b::7f00:1]:1": false, "[2002:7f00:1::1]:1": false, "192.0.2.1:443": false,
		"x": false, "198.41.0.4:443": true, "[2001:503:ba3e::2:30]:443": true} {
		if dialable(a, false) == nil != good {
			t.Errorf("%s: dialable is %v", a, !good)
		}
	}
	// The operator's word opens what is private, and never the metadata of a cloud.
	for a, good := range map[string]bool{"127.0.0.1:1": true, "10.0.0.1:1": true, "169.254.169.254:80": false, "[64:ff9b::7f00:1]:1": false} {
		if dialable(a, true) == nil != good {
			t.Errorf("%s: dialable for a house that allows private addresses is %v", a, !good)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"sct_version":0,"id":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","timestamp":1,"extensions":"","signature":"BAMAAQE="}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := ParseAnswer(in)
		if err != nil {
			return
		}
		raw, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sct.Parse(raw); err != nil {
			t.Errorf("what was read cannot be written: %v", err)
		}
	})
}
