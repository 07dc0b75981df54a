package graph

import (
	"bytes"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
)

// replaceSerial puts other content into the serial number, and mends the lengths around it.
func replaceSerial(der, content []byte) []byte {
	at := bytes.Index(der, []byte{0xa0, 3, 2, 1, 2}) + 5
	body := slices.Concat(der[8:at], []byte{2, byte(len(content))}, content, der[at+2+int(der[at+1]):])
	tbsLen := int(der[6])<<8 | int(der[7])
	grow := len(content) - int(der[at+1])
	head := slices.Clone(der[:8])
	outer := int(der[2])<<8 | int(der[3])
	head[2], head[3] = byte((outer+grow)>>8), byte(outer+grow)
	head[6], head[7] = byte((tbsLen+grow)>>8), byte(tbsLen+grow)
	return append(head, body...)
}

// malformed are certificates that crypto/x509 refuses or that are no certificates; read says which can be read here.
func malformed(t testing.TB) (list []struct {
	name string
	der  []byte
	read bool
}) {
	good := newMaker(t).der("Root", "Root", ca(ocspSigning))
	add := func(name string, der []byte, read bool) {
		list = append(list, struct {
			name string
			der  []byte
			read bool
		}{name, der, read})
	}
	add("sound", good, true)
	add("negative serial", replaceSerial(good, []byte{0x80, 1}), true)
	add("zero serial", replaceSerial(good, []byte{0}), true)
	add("long serial", replaceSerial(good, bytes.Repeat([]byte{0x41}, 40)), true)
	add("non-minimal serial", replaceSerial(good, []byte{0, 0, 1}), true)
	add("empty serial", replaceSerial(good, nil), false)
	add("trailing octets", append(slices.Clone(good), 1, 2, 3), true)
	add("truncated", good[:len(good)-10], false)
	add("empty", nil, false)
	add("empty sequence", []byte{0x30, 0}, false)
	add("garbage", []byte("not a certificate"), false)
	add("deep", bytes.Repeat([]byte{0x30, 0x80}, 5000), false)
	bad := func(old, new []byte) []byte { return bytes.Replace(good, old, new, 1) }
	add("broken basicConstraints", bad([]byte{0x30, 3, 1, 1, 0xff}, []byte{0x31, 3, 1, 1, 0xff}), true)
	add("cA is 1", bad([]byte{0x30, 3, 1, 1, 0xff}, []byte{0x30, 3, 1, 1, 1}), true)
	add("year without digits", bad([]byte("2511"), []byte("25xx")), true)
	add("version 7", bad([]byte{0xa0, 3, 2, 1, 2}, []byte{0xa0, 3, 2, 1, 6}), true)
	add("unknown curve", bytes.ReplaceAll(good, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 9}), true)
	return list
}

// TestLenient reads each malformed certificate, or says why not; the graph and the audit take what is read.
func TestLenient(t *testing.T) {
	var all []*Certificate
	for _, c := range malformed(t) {
		got, err := Parse(c.der)
		if (err == nil) != c.read {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil {
			continue
		}
		all = append(all, got)
		if c.name != "sound" && c.name != "zero serial" && c.name != "negative serial" && c.name != "long serial" && c.name != "cA is 1" && c.name != "unknown curve" && len(got.Problems) == 0 {
			t.Errorf("%s: nothing wrong with it", c.name)
		}
		if c.name == "negative serial" && (got.SerialText() != "-7fff" || got.Serial.Int64() != -0x7fff) {
			t.Errorf("negative serial is %s", got.SerialText())
		}
		if c.name == "cA is 1" && !got.CA {
			t.Error("cA with a true of BER is no authority")
		}
	}
	for _, f := range Audit(New(all), now) {
		if f.Rule == RuleMalformed && f.Severity != Warning {
			t.Errorf("%+v", f)
		}
	}
}

// TestReadLastOctet: a certificate whose last octet is that of a line end is read whole.
func TestReadLastOctet(t *testing.T) {
	m := newMaker(t)
	for range 20_000 {
		der := m.der("Root", "Root", ca())
		if last := der[len(der)-1]; last != '\n' && last != '\r' {
			continue
		}
		for _, body := range [][]byte{der, append(slices.Clone(der), '\n'), slices.Concat(der, der)} {
			if found, unparsed := Read("f", body); len(found) == 0 || len(unparsed) != 0 {
				t.Errorf("%d certificates, unparsed %v", len(found), unparsed)
			}
		}
		return
	}
	t.Fatal("no signature ended with a line end: this tested nothing")
}

// TestRead counts every block once, whatever is around it.
func TestRead(t *testing.T) {
	good := newMaker(t).der("Root", "Root", ca())
	block := func(label string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
	}
	c := block("CERTIFICATE", good)
	for name, x := range map[string]struct {
		body     string
		found    int
		unparsed int
	}{
		"two and talk":       {"hello\n" + c + "subject=x\n" + c, 2, 0},
		"windows":            {strings.ReplaceAll(c, "\n", "\r\n"), 1, 0},
		"headers":            {strings.Replace(c, "-----\n", "-----\nProc-Type: 4,X\nX: y\n\n", 1), 1, 0},
		"bad base64":         {strings.Replace(c, "A", "!", 1) + c, 1, 1},
		"no end":             {c[:200] + "\n" + c, 1, 1},
		"ends in the middle": {c + c[:200], 1, 1},
		"broken first line":  {"-----BEGIN CERT\n" + c, 1, 1},
		"a key beside":       {block("PRIVATE KEY", []byte{1, 2}) + c, 1, 1},
		"old labels":         {block("X509 CERTIFICATE", good) + block("TRUSTED CERTIFICATE", append(slices.Clone(good), 0x30, 2, 1, 2)), 2, 0},
		"empty block":        {block("CERTIFICATE", nil), 0, 1},
		"der":                {string(good), 1, 0},
		"three in der":       {strings.Repeat(string(good), 3), 3, 0},
		"der and a newline":  {string(good) + "\n", 1, 0},
		"der and garbage":    {string(good) + "xx", 1, 1},
		"text":               {"nothing here", 0, 1},
		"nothing":            {"", 0, 1},
		"spaces":             {" \n\n", 0, 1},
	} {
		found, unparsed := Read("f", []byte(x.body))
		if len(found) != x.found || len(unparsed) != x.unparsed {
			t.Errorf("%s: %d certificates, unparsed %v", name, len(found), unparsed)
		}
		var seen []int
		for _, c := range found {
			seen = append(seen, c.Source.Index)
			if len(c.Problems) > 0 {
				t.Errorf("%s: %v", name, c.Problems)
			}
		}
		for _, u := range unparsed {
			seen = append(seen, u.Index)
			if u.Reason == "" || u.File != "f" {
				t.Errorf("%s: %+v", name, u)
			}
		}
		slices.Sort(seen)
		for i, n := range seen {
			if i != n {
				t.Errorf("%s: indexes %v", name, seen)
			}
		}
	}
}

// FuzzRead gives hostile files to the reader, the graph and the audit.
func FuzzRead(f *testing.F) {
	for _, c := range malformed(f) {
		f.Add(c.der)
		f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.der}))
	}
	m := newMaker(f)
	f.Add(slices.Concat(m.der("A", "R", ca(ocspSigning)), m.der("B", "R", ca()), m.der("R", "R", ca())))
	f.Add([]byte("-----BEGIN CERTIFICATE----------BEGIN CERTIFICATE-----\n-----END "))
	f.Fuzz(func(t *testing.T, body []byte) {
		found, unparsed := Read("f", body)
		if len(found)+len(unparsed) == 0 {
			t.Fatal("the file was dropped")
		}
		g := New(found)
		Audit(g, now)
		set := g.roots4Test()
		g.Effect(g.Certificates, []AnchorSet{set}, now)
		for _, c := range g.Certificates {
			g.Paths(c, set, now, 10)
		}
	})
}

func (g *Graph) roots4Test() AnchorSet { return (&auditor{g: g}).roots() }
