package ocsp

import (
	"bytes"
	"encoding/hex"
	"testing"
	"time"

	"bulkhead"
)

func TestErrorResponses(t *testing.T) {
	for status, want := range map[ResponseStatus]string{
		MalformedRequest: "30030a0101", InternalError: "30030a0102", TryLater: "30030a0103", SigRequired: "30030a0105", Unauthorized: "30030a0106",
		Successful: "30030a0102", 4: "30030a0102", 99: "30030a0102",
	} {
		der := ErrorResponse(status)
		if hex.EncodeToString(der) != want {
			t.Errorf("%s: %x", status, der)
		}
		r, err := ParseResponse(der)
		if err != nil || r.Status == Successful || r.TBS != nil {
			t.Errorf("%s: %v %+v", status, err, r)
		}
		out, _ := tool(t, "openssl", "ocsp", "-respin", file(t, "r.der", der))
		if !bytes.Contains([]byte(out), []byte("Responder Error: ")) {
			t.Errorf("%s: %s", status, out)
		}
	}
}

// TestBuildTBS is a golden: the bytes that get signed must not move by accident.
func TestBuildTBS(t *testing.T) {
	issuer, err := NewIssuer([]byte{0x30, 0}, element(0x30, element(0x30, element(6, []byte{0x2a, 3})), element(3, []byte{0, 1})))
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := bulkhead.ParseSerial("80ff")
	at := time.Date(2026, 11, 21, 1, 2, 3, 999, time.FixedZone("east", 3600))
	s := Single{Serial: serial, State: Revoked, RevokedAt: at, HasReason: true, Reason: bulkhead.KeyCompromise, ThisUpdate: at, NextUpdate: at.Add(time.Hour)}
	got, err := statements(issuer, [20]byte{1}, at, s, SHA1, SHA256)
	if err != nil {
		t.Fatal(err)
	}
	// SHA-1 and SHA-256 of 3000 and of 01, by openssl dgst: the key hash is over the contents of the BIT STRING.
	name1, key1 := "f944dcd635f9801f7ac90a407fbc479964dec024", "bf8b4530d8d246dd74ac53a13471bba17941dff7"
	name256 := "e4f60d0aa6d7f3d3b6a6494b1c861b99f649c6f9ec51abaf201b20f297327c95"
	key256 := "4bf5122f344554c53bde2ebb8cd2b7e3d1600ad631c385a5d7cce23c7785459a"
	status := "a116180f32303236313132313030303230335aa0030a0101" + "180f32303236313132313030303230335a" + "a011180f32303236313132313031303230335a"
	want := "30820142" + "a2160414" + "0100000000000000000000000000000000000000" + "180f32303236313132313030303230335a" + "30820115" +
		"307a" + "303c" + "300906052b0e03021a0500" + "0414" + name1 + "0414" + key1 + "02030080ff" + status +
		"308196" + "3058" + "300d06096086480165030402010500" + "0420" + name256 + "0420" + key256 + "02030080ff" + status
	if hex.EncodeToString(got) != want {
		t.Errorf("got  %x\nwant %s", got, want)
	}
	one, err := BuildTBSFor(issuer, [20]byte{1}, at, s, SHA1)
	want = "3081a7" + "a2160414" + "0100000000000000000000000000000000000000" + "180f32303236313132313030303230335a" + "307c" +
		"307a" + "303c" + "300906052b0e03021a0500" + "0414" + name1 + "0414" + key1 + "02030080ff" + status
	if err != nil || hex.EncodeToString(one) != want {
		t.Errorf("one: %v\ngot  %x\nwant %s", err, one, want)
	}
}

func TestBuildTBSRefuses(t *testing.T) {
	h := newHouse(t)
	issuer, base := h.root.issuer(t), goodSingle(h.child.serial(t))
	revoked := base
	revoked.State, revoked.RevokedAt, revoked.HasReason = Revoked, now, true
	build := func(s Single, f func(s *Single)) error {
		f(&s)
		_, err := BuildTBSFor(issuer, [20]byte{}, now, s, SHA256)
		return err
	}
	for name, err := range map[string]error{
		"no state":             build(base, func(s *Single) { s.State = 0 }),
		"no such state":        build(base, func(s *Single) { s.State = 9 }),
		"no serial":            build(base, func(s *Single) { s.Serial = bulkhead.Serial{} }),
		"no thisUpdate":        build(base, func(s *Single) { s.ThisUpdate = time.Time{} }),
		"no nextUpdate":        build(base, func(s *Single) { s.NextUpdate = time.Time{} }),
		"nextUpdate same":      build(base, func(s *Single) { s.NextUpdate = s.ThisUpdate.Add(999 * time.Millisecond) }),
		"produced before":      build(base, func(s *Single) { s.ThisUpdate = now.Add(time.Second) }),
		"good with reason":     build(base, func(s *Single) { s.HasReason = true }),
		"good with time":       build(base, func(s *Single) { s.RevokedAt = now }),
		"revoked without time": build(revoked, func(s *Single) { s.RevokedAt = time.Time{} }),
		"hold":                 build(revoked, func(s *Single) { s.Reason = bulkhead.CertificateHold }),
		"reason 7":             build(revoked, func(s *Single) { s.Reason = 7 }),
		"removeFromCRL":        build(revoked, func(s *Single) { s.Reason = bulkhead.RemoveFromCRL }),
		"reason 11":            build(revoked, func(s *Single) { s.Reason = 11 }),
		"reason -1":            build(revoked, func(s *Single) { s.Reason = -1 }),
		"year 10000":           build(base, func(s *Single) { s.NextUpdate = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }),
	} {
		if bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := BuildTBSFor(Issuer{}, [20]byte{}, now, base, SHA1); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Errorf("zero issuer: %v", err)
	}
	for _, hash := range []HashAlgorithm{UnknownHash, 77} {
		if _, err := BuildTBSFor(issuer, [20]byte{}, now, base, hash); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("hash %v: %v", hash, err)
		}
	}
	unspecified := revoked
	unspecified.Reason = bulkhead.Unspecified
	r, err := ParseResponse(sign(t, issuer, h.delegate, unspecified))
	if err != nil || r.Singles[0].HasReason {
		t.Errorf("reason 0 is encoded: %v", err)
	}
}

// TestAssemble: sizes on both sides of each length form read back as the parts they were made of.
func TestAssemble(t *testing.T) {
	h := newHouse(t)
	tbs, err := BuildTBSFor(h.root.issuer(t), [20]byte{1}, now, goodSingle(h.child.serial(t)), SHA1)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 126, 127, 128, 254, 255, 256, 65534, 65535, 65536, 70000} {
		for _, cert := range [][]byte{nil, h.delegate.cert.Raw, element(0x30, make([]byte, n))} {
			sig := bytes.Repeat([]byte{7}, n)
			der := Assemble(tbs, sig, cert)
			r, err := ParseResponse(der)
			if err != nil || !bytes.Equal(r.TBS, tbs) || !bytes.Equal(r.Signature, sig) || len(der) != AssembledSize(tbs, sig, cert) {
				t.Fatalf("%d: %v", n, err)
			}
			if cert == nil && r.Certificates != nil || cert != nil && (len(r.Certificates) != 1 || !bytes.Equal(r.Certificates[0], cert)) {
				t.Errorf("%d: certificates differ", n)
			}
		}
	}
}

func TestMalformedResponses(t *testing.T) {
	h := newHouse(t)
	good := sign(t, h.root.issuer(t), h.delegate, goodSingle(h.child.serial(t)))
	for name, der := range map[string][]byte{
		"nothing":              nil,
		"truncated":            good[:len(good)-1],
		"trailing":             append(append([]byte(nil), good...), 0),
		"status 4":             {0x30, 3, 10, 1, 4},
		"status 7":             {0x30, 3, 10, 1, 7},
		"success without data": {0x30, 3, 10, 1, 0},
		"error with data":      bytes.Replace(good, []byte(assembledStatus), []byte{10, 1, 1}, 1),
		"other type":           bytes.Replace(good, []byte(oidBasic), []byte("\x2b\x06\x01\x05\x05\x07\x30\x01\x09"), 1),
		"no responder":         bytes.Replace(good, []byte{0xa2, 0x16}, []byte{0xa3, 0x16}, 1),
		"short key hash":       bytes.Replace(good, []byte{0xa2, 0x16, 4, 0x14}, []byte{0xa2, 0x16, 5, 0x14}, 1),
		"year of two digits":   bytes.Replace(good, []byte{0x18, 0x0f, '2'}, []byte{0x17, 0x0f, '2'}, 1),
		"local time":           bytes.Replace(good, append([]byte(now.Format("20060102150405")), 'Z'), append([]byte(now.Format("20060102150405")), '+'), 1),
		"status of octets":     bytes.Replace(good, []byte{0x80, 0, 0x18}, []byte{0x84, 0, 0x18}, 1),
		"good with contents":   resign(t, h, bytes.Replace(single(t, h, ""), []byte{0x80, 0, 0x18}, []byte{0x80, 1, 0x18}, 1), nil),
		"no statement":         resign(t, h, nil, nil),
		"version 2":            bytes.Replace(good, []byte{0xa2, 0x16}, []byte{0xa0, 0x16}, 1),
	} {
		if bytes.Equal(der, good) {
			t.Errorf("%s: nothing was changed", name)
		}
		if _, err := ParseResponse(der); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	h := newHouse(t)
	issuer := h.root.issuer(t)
	for _, hash := range []HashAlgorithm{SHA1, SHA256} {
		der, err := EncodeRequest([]CertID{issuer.CertID(hash, h.child.serial(t))}, bytes.Repeat([]byte{1}, 32))
		if err != nil {
			t.Fatal(err)
		}
		var one One
		if n := testing.AllocsPerRun(100, func() {
			if !ParseOne(der, &one) || !issuer.Matches(one.Hash, one.NameHash, one.KeyHash) {
				t.Fatal("not read")
			}
		}); n != 0 {
			t.Errorf("ParseOne allocates %v times", n)
		}
	}
	tbs, err := BuildTBSFor(issuer, [20]byte{1}, now, goodSingle(h.child.serial(t)), SHA1)
	if err != nil {
		t.Fatal(err)
	}
	single := goodSingle(h.child.serial(t))
	single.State, single.RevokedAt, single.Reason, single.HasReason = Revoked, now, bulkhead.KeyCompromise, true
	if n := testing.AllocsPerRun(100, func() { _, err = BuildTBSFor(issuer, [20]byte{1}, now, single, SHA256) }); n > 3 || err != nil {
		t.Errorf("BuildTBSFor allocates %v times, %v", n, err)
	}
	sig, cert := signTBS(t, h.delegate.key, tbs), h.delegate.cert.Raw
	dst := make([]byte, 0, AssembledSize(tbs, sig, cert))
	if n := testing.AllocsPerRun(100, func() { dst = AppendAssembled(dst[:0], tbs, sig, cert) }); n != 0 {
		t.Errorf("AppendAssembled allocates %v times", n)
	}
}

func BenchmarkParseOne(b *testing.B) {
	h := newHouse(b)
	issuer := h.root.issuer(b)
	der, err := EncodeRequest([]CertID{issuer.CertID(SHA1, h.child.serial(b))}, nil)
	if err != nil {
		b.Fatal(err)
	}
	var one One
	b.ReportAllocs()
	for b.Loop() {
		if !ParseOne(der, &one) || !issuer.Matches(one.Hash, one.NameHash, one.KeyHash) {
			b.Fatal("not read")
		}
	}
}

func BenchmarkAppendAssembled(b *testing.B) {
	h := newHouse(b)
	tbs, err := BuildTBSFor(h.root.issuer(b), [20]byte{1}, now, goodSingle(h.child.serial(b)), SHA1)
	if err != nil {
		b.Fatal(err)
	}
	sig, cert := signTBS(b, h.delegate.key, tbs), h.delegate.cert.Raw
	dst := make([]byte, 0, AssembledSize(tbs, sig, cert))
	b.ReportAllocs()
	b.SetBytes(int64(cap(dst)))
	for b.Loop() {
		dst = AppendAssembled(dst[:0], tbs, sig, cert)
	}
}

func BenchmarkBuildTBS(b *testing.B) {
	h := newHouse(b)
	issuer, s := h.root.issuer(b), goodSingle(h.child.serial(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := BuildTBSFor(issuer, [20]byte{1}, now, s, SHA256); err != nil {
			b.Fatal(err)
		}
	}
}
