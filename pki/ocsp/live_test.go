package ocsp

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
)

// answerLive makes a response to a request as it came: every CertID in order, the nonce as it is.
func answerLive(t testing.TB, h house, req *Request, say func(id CertID) Single) []byte {
	t.Helper()
	keyHash, err := KeyHash(h.delegate.cert.RawSubjectPublicKeyInfo)
	if err != nil {
		t.Fatal(err)
	}
	var list []Statement
	for _, id := range req.CertIDs {
		list = append(list, Statement{ID: id, Single: say(id)})
	}
	tbs, err := BuildLiveTBS(keyHash, now, list, req.Nonce)
	if err != nil {
		t.Fatal(err)
	}
	return Assemble(tbs, signTBS(t, h.delegate.key, tbs), h.delegate.cert.Raw)
}

// TestLiveRoundTrip: statements of every state and hash, in order, with nonces of every length, read back as they were said.
func TestLiveRoundTrip(t *testing.T) {
	h := newHouse(t)
	issuer := h.root.issuer(t)
	states := []Single{{State: Good}, {State: Unknown}, {State: Revoked, RevokedAt: now.Add(-time.Hour)},
		{State: Revoked, RevokedAt: now.Add(-time.Hour), HasReason: true, Reason: bulkhead.KeyCompromise}}
	for _, hash := range []HashAlgorithm{SHA1, SHA256, SHA384, SHA512} {
		var list []Statement
		for i := range 12 {
			s := states[i%len(states)]
			serial, err := bulkhead.SerialFromBytes(bytes.Repeat([]byte{byte(0x70 + 2*i)}, 1+i*19/11))
			if err != nil {
				t.Fatal(err)
			}
			s.Serial, s.ThisUpdate, s.NextUpdate = serial, now.Add(-time.Hour), now.Add(time.Hour)
			list = append(list, Statement{ID: issuer.CertID(hash, serial), Single: s})
		}
		for n := range MaxNonce + 1 {
			nonce := bytes.Repeat([]byte{byte(n)}, n)
			if n == 0 {
				nonce = nil
			}
			tbs, err := BuildLiveTBS([20]byte{3}, now, list[:1+n%len(list)], nonce)
			if err != nil {
				t.Fatal(err)
			}
			r, err := ParseData(tbs)
			if err != nil || !bytes.Equal(r.Nonce, nonce) || r.HasNonce != (n > 0) || len(r.Singles) != 1+n%len(list) {
				t.Fatalf("nonce of %d: %v %+v", n, err, r)
			}
			for i, s := range r.Singles {
				if s.Single != list[i].Single || !issuer.Matches(s.CertID.Hash, s.CertID.NameHash, s.CertID.KeyHash) {
					t.Errorf("statement %d: %+v, want %+v", i, s.Single, list[i].Single)
				}
			}
			if cap(tbs) != len(tbs) {
				t.Errorf("measured %d octets, wrote %d", cap(tbs), len(tbs))
			}
		}
	}
}

func TestLiveRefuses(t *testing.T) {
	h := newHouse(t)
	s := goodSingle(h.child.serial(t))
	issuer := h.root.issuer(t)
	good := Statement{ID: issuer.CertID(SHA1, s.Serial), Single: s}
	with := func(f func(x *Statement)) []Statement {
		x := good
		f(&x)
		return []Statement{good, x}
	}
	for name, c := range map[string]struct {
		list  []Statement
		nonce []byte
	}{
		"none":         {nil, nil},
		"too many":     {make([]Statement, maxSingles+1), nil},
		"empty nonce":  {[]Statement{good}, []byte{}},
		"long nonce":   {[]Statement{good}, make([]byte, 129)},
		"other serial": {with(func(x *Statement) { x.Serial, _ = bulkhead.ParseSerial("01") }), nil},
		"no hash":      {with(func(x *Statement) { x.ID.Hash = UnknownHash }), nil},
		"short hash":   {with(func(x *Statement) { x.ID.KeyHash = x.ID.KeyHash[1:] }), nil},
		"no state":     {with(func(x *Statement) { x.State = 0 }), nil},
		"year 10000":   {with(func(x *Statement) { x.NextUpdate = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }), nil},
	} {
		if _, err := BuildLiveTBS([20]byte{}, now, c.list, c.nonce); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseData([]byte{0x30, 0}); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Errorf("empty data: %v", err)
	}
	tbs, err := BuildTBSFor(issuer, [20]byte{}, now, s, SHA1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseData(append(tbs, 0)); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Errorf("trailing octet: %v", err)
	}
}

// TestLiveForeignReaders: OpenSSL, asking for two certificates with a nonce in one request, and GnuTLS, asking with a
// nonce for one, accept what is made of their own requests; a changed nonce they notice.
func TestLiveForeignReaders(t *testing.T) {
	h := newHouse(t)
	root, child := pemFile(t, h.root.cert), pemFile(t, h.child.cert)
	var spoil atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, 8192)
		n, _ := r.Body.Read(body)
		req, err := ParseRequest(body[:n], 16)
		if err != nil || !req.HasNonce {
			t.Errorf("request %x: %v", body[:n], err)
			return
		}
		if spoil.Load() {
			req.Nonce = append(bytes.Clone(req.Nonce[1:]), req.Nonce[0]^1)
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		w.Write(answerLive(t, h, req, func(id CertID) Single {
			s := goodSingle(id.Serial)
			if id.Serial != h.child.serial(t) {
				s.State = Unknown
			}
			return s
		}))
	}))
	defer srv.Close()
	for _, hash := range []string{"-sha1", "-sha256", "-sha384", "-sha512"} {
		out, err := tool(t, "openssl", "ocsp", "-url", srv.URL, "-CAfile", root, "-issuer", root, hash, "-cert", child, "-serial", "0x77", "-resp_text")
		if err != nil || !strings.Contains(out, "Response verify OK") || !strings.Contains(out, ": good") || !strings.Contains(out, "0x77: unknown") ||
			!strings.Contains(out, "OCSP Nonce") || strings.Contains(out, "WARNING") {
			t.Errorf("%s: %v\n%s", hash, err, out)
		}
	}
	out, err := tool(t, "ocsptool", "--ask="+srv.URL, "--load-issuer", root, "--load-cert", child, "--nonce")
	if err != nil || !strings.Contains(out, "Certificate Status: good") || !strings.Contains(out, "Verifying OCSP Response: Success") {
		t.Errorf("gnutls: %v\n%s", err, out)
	}
	spoil.Store(true)
	out, _ = tool(t, "openssl", "ocsp", "-url", srv.URL, "-CAfile", root, "-issuer", root, "-cert", child)
	if !strings.Contains(out, "Nonce Verify error") {
		t.Errorf("openssl does not notice another nonce:\n%s", out)
	}
}

// TestRequestNonces: RFC 9654 section 2.1: 1 to 128 octets are read, nothing and more are malformed.
func TestRequestNonces(t *testing.T) {
	h := newHouse(t)
	id := h.root.issuer(t)
	ids := []CertID{id.CertID(SHA1, h.child.serial(t))}
	for n := range 140 {
		der := requestWithNonce(t, ids, n)
		_, err := ParseRequest(der, 1)
		var one One
		if ok := n >= 1 && n <= MaxNonce; (err == nil) != ok || ParseOne(der, &one) != ok || ok && (len(one.Nonce) != n || !one.HasNonce) {
			t.Errorf("nonce of %d octets: %v", n, err)
		}
	}
}

// requestWithNonce is EncodeRequest without its bounds.
func requestWithNonce(t testing.TB, ids []CertID, n int) []byte {
	t.Helper()
	plain, err := EncodeRequest(ids, nil)
	if err != nil {
		t.Fatal(err)
	}
	oid, _ := hex.DecodeString(fmt.Sprintf("0609%x", oidNonce))
	list := plain[4:] // two headers of two octets: the request is short
	if plain[1] >= 0x80 || plain[3] >= 0x80 {
		t.Fatal("the request is longer than expected")
	}
	return element(0x30, element(0x30, list, element(0xa2, element(0x30, element(0x30, oid, element(0x04, element(0x04, make([]byte, n))))))))
}
