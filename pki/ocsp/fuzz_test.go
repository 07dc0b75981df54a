package ocsp

import (
	"bytes"
	"testing"

	xocsp "golang.org/x/crypto/ocsp"
)

func seedRequests(f *testing.F) {
	for _, der := range malformed() {
		f.Add(der)
	}
	f.Add(request(plain))
	f.Add(request(requestor, plain, exts(0xa2, nonceExt(nil, 16), ext(unknownExt, nil, nil))))
	f.Add(element(0x30, element(0x30, plain), certSig))
	f.Add(request(element(0x30, entry(element(0x30, algSHA256, element(4, hash32), element(4, hash32), element(2, []byte{5}))))))
}

// FuzzParseRequest: never panics, and what it reads of a request without signature is encoded again to the same meaning.
func FuzzParseRequest(f *testing.F) {
	seedRequests(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseRequest(der, 8)
		if err != nil {
			return
		}
		if len(r.CertIDs) == 0 || len(r.CertIDs) > 8 || len(r.Nonce) > MaxNonce {
			t.Fatalf("%+v", r)
		}
		again, err := EncodeRequest(r.CertIDs, r.Nonce)
		if err != nil {
			if r.CertIDs[0].Hash != UnknownHash && len(r.CertIDs) == 1 {
				t.Fatal(err)
			}
			return
		}
		back, err := ParseRequest(again, 8)
		if err != nil || len(back.CertIDs) != len(r.CertIDs) || !bytes.Equal(back.Nonce, r.Nonce) {
			t.Fatalf("%v %+v", err, back)
		}
		for i, id := range r.CertIDs {
			if b := back.CertIDs[i]; b.Serial != id.Serial || b.Hash != id.Hash || !bytes.Equal(b.NameHash, id.NameHash) || !bytes.Equal(b.KeyHash, id.KeyHash) {
				t.Fatalf("%+v became %+v", id, b)
			}
		}
	})
}

// FuzzParseOne: the fast path agrees with the full parser, and where Go's parser also reads the request, with Go's.
func FuzzParseOne(f *testing.F) {
	seedRequests(f)
	f.Fuzz(func(t *testing.T, der []byte) {
		var one One
		fast := ParseOne(der, &one)
		r, err := ParseRequest(der, 1)
		if err != nil {
			if fast {
				t.Fatalf("ParseOne accepts what ParseRequest refuses: %v", err)
			}
			return
		}
		id := r.CertIDs[0]
		if !fast {
			if !r.Signed && !r.HasNonce && (id.Hash == SHA1 || id.Hash == SHA256) {
				t.Fatal("ParseOne refuses a simple request")
			}
			return
		}
		if one.Serial != id.Serial || one.Hash != id.Hash || !bytes.Equal(one.NameHash, id.NameHash) || !bytes.Equal(one.KeyHash, id.KeyHash) ||
			one.HasNonce != r.HasNonce || !bytes.Equal(one.Nonce, r.Nonce) || r.Signed {
			t.Fatalf("%+v is not %+v", one, r)
		}
		if q, err := xocsp.ParseRequest(der); err == nil && q.SerialNumber.Cmp(one.Serial.Big()) != 0 {
			t.Fatalf("Go reads serial %x, we read %s", q.SerialNumber, one.Serial)
		}
	})
}

// FuzzParseResponse: never panics, CheckResponse believes nothing that the fuzzer made, and where Go's parser also
// reads the response, status and times agree.
func FuzzParseResponse(f *testing.F) {
	h := newHouse(f)
	s := goodSingle(h.child.serial(f))
	f.Add(sign(f, h.root.issuer(f), h.delegate, s))
	f.Add(sign(f, h.root.issuer(f), h.root, s, SHA1))
	s.State, s.RevokedAt, s.HasReason, s.Reason = Revoked, now, true, 4
	revoked := sign(f, h.root.issuer(f), h.delegate, s, SHA256)
	f.Add(revoked)
	f.Add(ErrorResponse(TryLater))
	stranger := issue(f, nil, newKey(f), caTemplate("Stranger"))
	f.Fuzz(func(t *testing.T, der []byte) {
		r, err := ParseResponse(der)
		if err != nil {
			return
		}
		if _, err := CheckResponse(r, stranger.cert, h.child.serial(t), now); err == nil {
			t.Fatal("a stranger's response is believed")
		}
		if r.Status != Successful {
			return
		}
		q, err := xocsp.ParseResponse(der, nil)
		if err != nil || len(r.Singles) != 1 {
			return
		}
		got := r.Singles[0]
		if !q.ThisUpdate.Equal(got.ThisUpdate) || !q.NextUpdate.Equal(got.NextUpdate) || q.SerialNumber.Cmp(got.Serial.Big()) != 0 ||
			(q.Status == xocsp.Revoked) != (got.State == Revoked) || (q.Status == xocsp.Good) != (got.State == Good) {
			t.Fatalf("Go reads %+v, we read %+v", q, got)
		}
	})
}
