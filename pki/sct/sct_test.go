package sct

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"reflect"
	"testing"
	"time"

	"bulkhead"
)

func sample() SCT {
	return SCT{LogID: [32]byte{1, 2}, Timestamp: 1790000000000, Extensions: []byte{0, 0, 5, 0, 0, 0, 0, 7}, Hash: 4, Sig: 3, Signature: []byte{0x30, 3, 2, 1, 1}}
}

func TestRoundTrip(t *testing.T) {
	list := []SCT{sample(), {LogID: [32]byte{9}, Hash: 4, Sig: 1, Signature: []byte{1}, Extensions: []byte{}}}
	list[0].Extensions = append([]byte{}, list[0].Extensions...)
	ext, err := Extension(list)
	if err != nil {
		t.Fatal(err)
	}
	got, err := FromExtensions([]pkix.Extension{Poison(), ext})
	if err != nil || len(got) != 2 || !reflect.DeepEqual(got[0], list[0]) || got[1].LogID != list[1].LogID {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range [][]byte{nil, {0, 0}, {0, 1, 0}, {0, 3, 0, 9, 1}} {
		if _, err := ParseList(bad); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%x: %v", bad, err)
		}
	}
	raw, _ := sample().Marshal()
	for _, bad := range [][]byte{nil, raw[:len(raw)-1], append(bytes.Clone(raw), 0), append([]byte{1}, raw[1:]...)} {
		if _, err := Parse(bad); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

// TestBare: poison and list come out, everything else stays octet for octet; the library is the oracle.
func TestBare(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "a.test"}, DNSNames: []string{"a.test"}, NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(2e9, 0)}
	tbs := func(extra ...pkix.Extension) []byte {
		c := *tmpl
		c.ExtraExtensions = extra
		der, err := x509.CreateCertificate(rand.Reader, &c, &c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed.RawTBSCertificate
	}
	ext, _ := Extension([]SCT{sample()})
	plain := tbs()
	for what, in := range map[string][]byte{"poison": tbs(Poison()), "list": tbs(ext)} {
		got, had, err := Bare(in)
		if err != nil || !had || !bytes.Equal(got, plain) {
			t.Errorf("%s: %v, %v", what, had, err)
		}
	}
	if got, had, err := Bare(plain); err != nil || had || !bytes.Equal(got, plain) {
		t.Errorf("nothing to take out: %v, %v", had, err)
	}
	for _, bad := range [][]byte{nil, {0x30}, {0x30, 2, 0xa3, 0}, append(bytes.Clone(plain), 0)} {
		if _, _, err := Bare(bad); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%x: %v", bad, err)
		}
	}
}

func FuzzParseList(f *testing.F) {
	raw, _ := MarshalList([]SCT{sample(), sample()})
	f.Add(raw)
	f.Add([]byte{0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		list, err := ParseList(in)
		if err != nil {
			return
		}
		out, err := MarshalList(list)
		if err != nil || !bytes.Equal(out, in) {
			t.Errorf("%x came back as %x, %v", in, out, err)
		}
	})
}

func FuzzBare(f *testing.F) {
	f.Add([]byte{0x30, 4, 0xa3, 2, 0x30, 0})
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		bare, _, err := Bare(in)
		if err != nil {
			return
		}
		if again, had, err := Bare(bare); err != nil || had || !bytes.Equal(again, bare) {
			t.Errorf("bare is not bare: %v, %v", had, err)
		}
	})
}

// FuzzReadEntries: no tile makes it panic, and what is read stands in the tile.
func FuzzReadEntries(f *testing.F) {
	x509Entry := append(append(make([]byte, 10), 0, 0, 1, 'c', 0, 0), 0, 0)
	precert := append(append(append(make([]byte, 9), 1), make([]byte, 32)...), 0, 0, 1, 't', 0, 0, 0, 0, 1, 'p', 0, 0)
	f.Add(x509Entry, 1)
	f.Add(precert, 1)
	f.Add(append(bytes.Clone(x509Entry), precert...), 2)
	f.Fuzz(func(t *testing.T, tile []byte, n int) {
		entries, err := ReadEntries(tile, max(0, min(n, 256)))
		if err != nil {
			return
		}
		for _, e := range entries {
			if !bytes.Contains(tile, e.Leaf[2:]) || !bytes.Contains(tile, e.Certificate) {
				t.Fatal("an entry that is not in the tile")
			}
			e.SameTBS()
		}
	})
}
