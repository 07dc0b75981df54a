package ocsp

import (
	"bytes"
	"errors"
	"testing"

	"bulkhead"
)

// Pieces of requests, built by hand so that each can be wrong alone.
var (
	algSHA1   = element(0x30, element(0x06, []byte(oidSHA1)), []byte{5, 0})
	hash20    = bytes.Repeat([]byte{7}, 20)
	algSHA256 = element(0x30, element(0x06, []byte(oidSHA256)))
	hash32    = bytes.Repeat([]byte{8}, 32)
)

func certID(serial ...byte) []byte {
	return element(0x30, algSHA1, element(4, hash20), element(4, hash20), element(2, serial))
}

func entry(id []byte, more ...[]byte) []byte { return element(0x30, append([][]byte{id}, more...)...) }

func request(parts ...[]byte) []byte { return element(0x30, element(0x30, parts...)) }

func ext(oid string, critical []byte, value []byte) []byte {
	return element(0x30, element(6, []byte(oid)), critical, element(4, value))
}

func exts(tag byte, list ...[]byte) []byte { return element(tag, element(0x30, list...)) }

func nonceExt(critical []byte, n int) []byte {
	return ext(oidNonce, critical, element(4, bytes.Repeat([]byte{9}, n)))
}

var (
	critical   = []byte{1, 1, 0xff}
	plain      = element(0x30, entry(certID(5)))
	signature  = element(0xa0, element(0x30, element(0x30, element(6, []byte(oidP256Sig))), element(3, []byte{0, 1, 2})))
	certSig    = element(0xa0, element(0x30, element(0x30, element(6, []byte(oidP256Sig))), element(3, []byte{0, 1, 2}), element(0xa0, element(0x30, element(0x30)))))
	requestor  = element(0xa1, element(0xa4, element(0x30)))
	unknownExt = "\x2a\x03\x04"
)

// malformed is one request of each kind that must be refused.
func malformed() map[string][]byte {
	ok := request(plain)
	return map[string][]byte{
		"nothing":                 {},
		"null":                    {5, 0},
		"text":                    []byte("GET /"),
		"truncated":               ok[:len(ok)-1],
		"header alone":            ok[:2],
		"trailing byte":           append(append([]byte(nil), ok...), 0),
		"trailing inside":         element(0x30, ok[2:], []byte{0}),
		"long form of a length":   append([]byte{0x30, 0x81, ok[1]}, ok[2:]...),
		"indefinite length":       append(append([]byte{0x30, 0x80}, ok[2:]...), 0, 0),
		"huge length":             {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0},
		"wrong outer tag":         append([]byte{0x31}, ok[1:]...),
		"wrong tbs tag":           element(0x30, element(0x31, plain)),
		"no tbs":                  element(0x30),
		"version v2":              request(element(0xa0, []byte{2, 1, 1}), plain),
		"version of two octets":   request(element(0xa0, []byte{2, 2, 0, 0}), plain),
		"version without integer": request(element(0xa0), plain),
		"empty requestor":         request(element(0xa1), plain),
		"no list":                 request(),
		"empty list":              request(element(0x30)),
		"list of octets":          request(element(4, entry(certID(5)))),
		"entry of octets":         request(element(0x30, element(4, certID(5)))),
		"entry empty":             request(element(0x30, element(0x30))),
		"entry with trailing":     request(element(0x30, entry(certID(5), []byte{5, 0}))),
		"no serial":               request(element(0x30, entry(element(0x30, algSHA1, element(4, hash20), element(4, hash20))))),
		"empty serial":            request(element(0x30, entry(certID()))),
		"negative serial":         request(element(0x30, entry(certID(0xff)))),
		"zero serial":             request(element(0x30, entry(certID(0)))),
		"non-minimal serial":      request(element(0x30, entry(certID(0, 5)))),
		"serial of 21 octets":     request(element(0x30, entry(certID(bytes.Repeat([]byte{1}, 21)...)))),
		"serial as octets":        request(element(0x30, entry(element(0x30, algSHA1, element(4, hash20), element(4, hash20), element(4, []byte{5}))))),
		"something after serial":  request(element(0x30, entry(element(0x30, algSHA1, element(4, hash20), element(4, hash20), element(2, []byte{5}), []byte{5, 0})))),
		"no key hash":             request(element(0x30, entry(element(0x30, algSHA1, element(4, hash20), element(2, []byte{5}))))),
		"short name hash":         request(element(0x30, entry(element(0x30, algSHA1, element(4, hash20[1:]), element(4, hash20), element(2, []byte{5}))))),
		"short key hash":          request(element(0x30, entry(element(0x30, algSHA1, element(4, hash20), element(4, hash20[1:]), element(2, []byte{5}))))),
		"SHA-1 hash under 256":    request(element(0x30, entry(element(0x30, algSHA256, element(4, hash20), element(4, hash20), element(2, []byte{5}))))),
		"hash parameters":         request(element(0x30, entry(element(0x30, element(0x30, element(6, []byte(oidSHA1)), element(4)), element(4, hash20), element(4, hash20), element(2, []byte{5}))))),
		"no hash identifier":      request(element(0x30, entry(element(0x30, element(0x30), element(4, hash20), element(4, hash20), element(2, []byte{5}))))),
		"identifier not ended":    request(element(0x30, entry(element(0x30, element(0x30, element(6, []byte{0x2b, 0x8e})), element(4, hash20), element(4, hash20), element(2, []byte{5}))))),
		"identifier padded":       request(element(0x30, entry(element(0x30, element(0x30, element(6, []byte{0x2b, 0x80, 1})), element(4, hash20), element(4, hash20), element(2, []byte{5}))))),
		"empty extensions":        request(plain, exts(0xa2)),
		"extensions not a list":   request(plain, element(0xa2, []byte{5, 0})),
		"extension twice":         request(plain, exts(0xa2, ext(unknownExt, nil, nil), ext(unknownExt, nil, nil))),
		"nonce twice":             request(plain, exts(0xa2, nonceExt(nil, 16), nonceExt(nil, 16))),
		"unknown critical":        request(plain, exts(0xa2, ext(unknownExt, critical, nil))),
		"too many extensions":     request(plain, exts(0xa2, manyExts(maxExtensions+1)...)),
		"critical as 1":           request(plain, exts(0xa2, ext(unknownExt, []byte{1, 1, 1}, nil))),
		"extension without value": request(plain, exts(0xa2, element(0x30, element(6, []byte(unknownExt))))),
		"nonce of 0 octets":       request(plain, exts(0xa2, nonceExt(nil, 0))),
		"nonce of 129 octets":     request(plain, exts(0xa2, nonceExt(nil, 129))),
		"nonce not wrapped":       request(plain, exts(0xa2, ext(oidNonce, nil, hash20))),
		"nonce with trailing":     request(plain, exts(0xa2, ext(oidNonce, nil, append(element(4, hash20), 0)))),
		"single unknown critical": request(element(0x30, entry(certID(5), exts(0xa0, ext(unknownExt, critical, nil))))),
		"single extension twice":  request(element(0x30, entry(certID(5), exts(0xa0, ext(unknownExt, nil, nil), ext(unknownExt, nil, nil))))),
		"single empty extensions": request(element(0x30, entry(certID(5), exts(0xa0)))),
		"three certificates":      request(element(0x30, entry(certID(5)), entry(certID(6)), entry(certID(7)))),
		"second malformed":        request(element(0x30, entry(certID(5)), entry(certID(0)))),
		"signature empty":         element(0x30, element(0x30, plain), element(0xa0)),
		"signature trailing":      element(0x30, element(0x30, plain), signature, []byte{5, 0}),
		"signature without bits":  element(0x30, element(0x30, plain), element(0xa0, element(0x30, element(0x30, element(6, []byte(oidP256Sig)))))),
		"signature certificates":  element(0x30, element(0x30, plain), bytes.Replace(certSig, []byte{0x30, 0x00}, []byte{0x05, 0x00}, 1)),
	}
}

func manyExts(n int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, ext("\x2a\x03"+string(rune('a'+i)), nil, nil))
	}
	return out
}

func TestMalformedRequests(t *testing.T) {
	for name, der := range malformed() {
		r, err := ParseRequest(der, 2)
		var f *bulkhead.Fault
		if !errors.As(err, &f) || f.Kind != bulkhead.KindMalformed || f.Hint == "" || r != nil {
			t.Errorf("%s: %v (%x)", name, err, der)
		}
		var one One
		if ParseOne(der, &one) {
			t.Errorf("%s: ParseOne accepts it", name)
		}
	}
}

// TestAcceptedRequests: what is unusual but lawful, and whether the fast path takes it.
func TestAcceptedRequests(t *testing.T) {
	big := bytes.Repeat([]byte{0x7f}, 20)
	for name, c := range map[string]struct {
		der  []byte
		fast bool
		want Request
	}{
		"plain":              {request(plain), true, Request{}},
		"SHA-256":            {request(element(0x30, entry(element(0x30, algSHA256, element(4, hash32), element(4, hash32), element(2, []byte{5}))))), true, Request{}},
		"unknown hash":       {request(element(0x30, entry(element(0x30, element(0x30, element(6, []byte{0x2a, 3})), element(4, hash20), element(4), element(2, []byte{5}))))), false, Request{}},
		"explicit v1":        {request(element(0xa0, []byte{2, 1, 0}), plain), true, Request{}},
		"requestor":          {request(requestor, plain), true, Request{}},
		"signed":             {element(0x30, element(0x30, plain), signature), false, Request{Signed: true}},
		"signed with chain":  {element(0x30, element(0x30, requestor, plain), certSig), false, Request{Signed: true}},
		"nonce of 1":         {request(plain, exts(0xa2, nonceExt(nil, 1))), true, Request{HasNonce: true}},
		"nonce of 128":       {request(plain, exts(0xa2, nonceExt(nil, 128))), true, Request{HasNonce: true}},
		"critical nonce":     {request(plain, exts(0xa2, nonceExt(critical, 16))), false, Request{HasNonce: true}},
		"unknown extension":  {request(plain, exts(0xa2, ext(unknownExt, nil, nil), nonceExt(nil, 32))), true, Request{HasNonce: true}},
		"single extension":   {request(element(0x30, entry(certID(5), exts(0xa0, ext(unknownExt, nil, nil))))), true, Request{}},
		"serial of 20":       {request(element(0x30, entry(certID(big...)))), true, Request{}},
		"serial with sign":   {request(element(0x30, entry(certID(append([]byte{0}, bytes.Repeat([]byte{0xff}, 20)...)...)))), true, Request{}},
		"two certificates":   {request(element(0x30, entry(certID(5)), entry(certID(6)))), false, Request{}},
		"sixteen extensions": {request(plain, exts(0xa2, manyExts(maxExtensions)...)), true, Request{}},
	} {
		r, err := ParseRequest(c.der, 2)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Signed != c.want.Signed || r.HasNonce != c.want.HasNonce || r.HasNonce != (len(r.Nonce) > 0) {
			t.Errorf("%s: %+v", name, r)
		}
		var one One
		if ParseOne(c.der, &one) != c.fast {
			t.Errorf("%s: the fast path takes it: %v", name, !c.fast)
		}
	}
	if _, err := ParseRequest(request(plain), 0); err == nil {
		t.Error("a limit of zero lets one through")
	}
}

func TestEncodeRequest(t *testing.T) {
	serial, _ := bulkhead.ParseSerial("ff00")
	id := CertID{SHA256, hash32, hash32, serial}
	der, err := EncodeRequest([]CertID{id, id}, hash20)
	if err != nil {
		t.Fatal(err)
	}
	r, err := ParseRequest(der, 2)
	if err != nil || len(r.CertIDs) != 2 || r.CertIDs[1].Serial != serial || string(r.Nonce) != string(hash20) {
		t.Errorf("%v %+v", err, r)
	}
	for name, f := range map[string]func() ([]byte, error){
		"none":        func() ([]byte, error) { return EncodeRequest(nil, nil) },
		"empty nonce": func() ([]byte, error) { return EncodeRequest([]CertID{id}, []byte{}) },
		"long nonce":  func() ([]byte, error) { return EncodeRequest([]CertID{id}, make([]byte, 129)) },
		"wrong hash":  func() ([]byte, error) { return EncodeRequest([]CertID{{SHA1, hash32, hash32, serial}}, nil) },
		"no serial":   func() ([]byte, error) { return EncodeRequest([]CertID{{SHA1, hash20, hash20, bulkhead.Serial{}}}, nil) },
	} {
		if _, err := f(); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestIssuerMatches: name and key together, under every hash; one alone is somebody else.
func TestIssuerMatches(t *testing.T) {
	h := newHouse(t)
	root, sameName := h.root.issuer(t), issue(t, nil, newKey(t), caTemplate("Root")).issuer(t)
	sameKey := issue(t, nil, h.root.key, caTemplate("Other")).issuer(t)
	for _, hash := range []HashAlgorithm{SHA1, SHA256, SHA384, SHA512} {
		id := root.CertID(hash, h.child.serial(t))
		if !root.Matches(hash, id.NameHash, id.KeyHash) {
			t.Errorf("%d: no match with itself", hash)
		}
		if sameName.Matches(hash, id.NameHash, id.KeyHash) || sameKey.Matches(hash, id.NameHash, id.KeyHash) {
			t.Errorf("%d: name or key alone matches", hash)
		}
		if root.Matches(hash, id.KeyHash, id.NameHash) || root.Matches(hash, id.NameHash, nil) || root.Matches(UnknownHash, nil, nil) {
			t.Errorf("%d: nonsense matches", hash)
		}
	}
	var zero Issuer
	if zero.Matches(SHA1, make([]byte, 20), make([]byte, 20)) {
		t.Error("the zero issuer matches zeros")
	}
	for name, in := range map[string][2][]byte{
		"no name": {nil, h.root.cert.RawSubjectPublicKeyInfo}, "no key": {h.root.cert.RawSubject, nil},
		"swapped":  {h.root.cert.RawSubject, h.root.cert.RawSubject},
		"trailing": {append(append([]byte(nil), h.root.cert.RawSubject...), 0), h.root.cert.RawSubjectPublicKeyInfo},
	} {
		if _, err := NewIssuer(in[0], in[1]); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}
