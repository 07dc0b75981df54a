package importer_test

import (
	"crypto/x509"
	"math/big"
	"strings"
	"testing"

	"bulkhead/importer"
)

func set() *importer.Set {
	return importer.New(&x509.Certificate{SerialNumber: big.NewInt(1), Raw: []byte("r"), RawIssuer: []byte("i"), RawSubject: []byte("s")})
}

// TestIndex: each form of a line, and each way in which one is wrong, with its number.
func TestIndex(t *testing.T) {
	good := []string{
		"V\t270101000000Z\t\t1000\tunknown\t/CN=a", "E\t20270101000000Z\t\t1001\tunknown\t/CN=a", "R\t270101000000Z\t260101000000Z\t1002\tunknown\t/CN=a",
		"R\t270101000000Z\t260101000000Z,keyTime,20260101000000Z\t1003\tunknown\t/CN=a", "R\t270101000000Z\t260101000000Z,superseded\t1004\tunknown\t/CN=a\r", "",
	}
	s := set()
	s.Index("index.txt", strings.NewReader(strings.Join(good, "\n")))
	if len(s.Problems) != 0 || len(s.Revoked) != 3 {
		t.Fatalf("%+v %+v", s.Problems, s.Revoked)
	}
	s.Finish(nil)
	if len(s.Problems) != 5 {
		t.Errorf("%+v", s.Problems) // none of the certificates was given
	}
	for _, bad := range []string{"nonsense", "V\tx\t\t1000\tunknown\t/CN=a", "V\t270101000000Z\t\tzz\tunknown\t/CN=a", "V\t270101000000Z\t\t00\tunknown\t/CN=a", "X\t270101000000Z\t\t1000\tunknown\t/CN=a",
		"V\t270101000000Z\t260101000000Z\t1000\tunknown\t/CN=a", "R\t270101000000Z\t\t1000\tunknown\t/CN=a", "R\t270101000000Z\t260101000000Z,hunger\t1000\tunknown\t/CN=a",
		strings.Repeat("x", 1<<17), "V\t270101000000Z\t\t1000\tunknown\t/CN=a\textra"} {
		s := set()
		s.Index("index.txt", strings.NewReader("\n"+bad+"\n"))
		if len(s.Problems) != 1 || s.Problems[0].Line != 2 {
			t.Errorf("%.60q: %+v", bad, s.Problems)
		}
	}
}

// FuzzIndex: every line that is not blank is taken or named.
func FuzzIndex(f *testing.F) {
	f.Add("V\t270101000000Z\t\t1000\tunknown\t/CN=a\nR\t270101000000Z\t260101000000Z,keyTime,20260101000000Z\t1003\tunknown\t/CN=a\n")
	f.Add("R\t270101000000Z\t,\t1\t\t\n\r\n\t\t\t\t\t")
	f.Fuzz(func(t *testing.T, text string) {
		s := set()
		s.Index("i", strings.NewReader(text))
		s.Finish(nil) // every serial that a line named and that is not the authority's own is named as well
		want := 0
		for _, l := range strings.Split(text, "\n") {
			if strings.TrimSpace(l) != "" {
				want++
			}
		}
		if len(text) < 60_000 && len(s.Problems) != want {
			t.Fatalf("%d lines, %d named: %+v", want, len(s.Problems), s.Problems)
		}
	})
}

// FuzzFile: no bytes make it panic or give a certificate that the authority did not sign.
func FuzzFile(f *testing.F) {
	for _, x := range []string{"", "{}", "[\"17:67\"]", `{"data":{"certificate":"x","revocation_time":1}}`, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "0\x82"} {
		f.Add([]byte(x))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		s := set()
		importer.HasList(body)
		importer.Read("f", body, func(p importer.Piece) {
			j := s.Judge(p)
			s.TakeList(j)
			s.Take(j)
		})
		s.Finish(nil)
		if s.Size() > 0 {
			t.Fatal("a certificate of nobody")
		}
	})
}
