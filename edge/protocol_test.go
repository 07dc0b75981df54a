package edge

import (
	"bytes"
	"context"
	"encoding/asn1"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// TestGetFits: a request for one certificate under SHA-1 or SHA-256 stays within the 255 octets for which clients use GET
// (RFC 9919 section 5), whatever its serial, behind a status URL of usual length; and is answered.
func TestGetFits(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	longest := must(bulkhead.SerialFromBytes(bytes.Repeat([]byte{0xff}, bulkhead.MaxSerialOctets)))(t)
	x := w.good(1)
	x.serial = longest
	w.add(a, x)
	w.publish()
	srv := serve(t, w.refreshed())
	for _, hash := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
		der := must(ocsp.EncodeRequest([]ocsp.CertID{a.issuer.CertID(hash, longest)}, nil))(t)
		path := getPath(der)
		if n := len("http://status.example.test") + len(path); n > 255 {
			t.Errorf("hash %d: a URL of %d octets", hash, n)
		}
		if r := do(t, srv, http.MethodGet, path, nil); r.StatusCode != http.StatusOK || r.Header.Get("ETag") == "" {
			t.Errorf("hash %d: HTTP %d", hash, r.StatusCode)
		}
	}
}

// TestIgnoredExtensions: preferred signature algorithms (RFC 6960 section 4.4.7.1), accepted response types and extensions that
// nobody knows change nothing; a name of the requestor neither.
func TestIgnoredExtensions(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(7))
	w.publish()
	e := w.refreshed()
	want := e.askFor(t, a.request(t, ocsp.SHA1, 7))
	var in struct{ TBS struct{ List asn1.RawValue } }
	if _, err := asn1.Unmarshal(a.request(t, ocsp.SHA1, 7), &in); err != nil {
		t.Fatal(err)
	}
	type ext struct {
		ID    asn1.ObjectIdentifier
		Value []byte
	}
	oid := func(last ...int) asn1.ObjectIdentifier {
		return append(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}, last...)
	}
	preferred := must(asn1.Marshal([]struct {
		Sig struct{ ID asn1.ObjectIdentifier }
	}{{struct{ ID asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}}}}))(t)
	types := must(asn1.Marshal([]asn1.ObjectIdentifier{oid(1)}))(t)
	for name, exts := range map[string][]ext{
		"preferred signature algorithms": {{oid(8), preferred}},
		"response types":                 {{oid(4), types}},
		"unknown":                        {{asn1.ObjectIdentifier{1, 2, 3, 4}, []byte{5, 0}}},
		"all":                            {{oid(8), preferred}, {oid(4), types}, {asn1.ObjectIdentifier{1, 2, 3, 4}, []byte{5, 0}}},
	} {
		type tbs struct {
			Name asn1.RawValue
			List asn1.RawValue
			Exts []ext `asn1:"explicit,tag:2"`
		}
		requestor := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte("me.test")}))(t)}
		der := must(asn1.Marshal(struct{ TBS tbs }{tbs{requestor, in.TBS.List, exts}}))(t)
		if got := e.askFor(t, der); !bytes.Equal(got, want) {
			t.Errorf("%s: %x", name, got)
		}
	}
}

// failing is a switch that has delegates and signs nothing.
type failing struct {
	a   *authority
	err error
}

func (f failing) Issuer(id *ocsp.CertID) (bulkhead.AuthorityID, bool) {
	return f.a.id, f.a.issuer.Matches(id.Hash, id.NameHash, id.KeyHash)
}

func (f failing) Answer(context.Context, bulkhead.AuthorityID, []ocsp.Statement, []byte) ([]byte, error) {
	return nil, f.err
}

// TestErrorsAreNotKept: internalError and tryLater, each for its own trouble, never cached.
func TestErrorsAreNotKept(t *testing.T) {
	w := newWorld(t)
	a := newAuthority(t, "a", "A", newKey(t))
	w.add(a, w.good(7))
	w.publish()
	for kind, want := range map[bulkhead.Kind]ocsp.ResponseStatus{bulkhead.KindInternal: ocsp.InternalError, bulkhead.KindMalformed: ocsp.InternalError,
		bulkhead.KindRateLimited: ocsp.TryLater, bulkhead.KindUnavailable: ocsp.TryLater} {
		srv := serve(t, w.refreshed(func(c *Config) { c.Live = failing{a, bulkhead.NewFault(kind, "planted")} }))
		der := must(ocsp.EncodeRequest(a.ids(ocsp.SHA1, 7, 8), []byte("nonce")))(t)
		for _, r := range []reply{do(t, srv, http.MethodPost, "/ocsp/", der), do(t, srv, http.MethodGet, getPath(der), nil)} {
			p := must(ocsp.ParseResponse(r.body))(t)
			if p.Status != want || r.Header.Get("Cache-Control") != "no-store" || r.Header.Get("Expires") != "" || r.Header.Get("ETag") != "" {
				t.Errorf("%s: %s, %v", kind, p.Status, r.Header)
			}
		}
	}
}

// TestProtocolTable: every test that the table of protocol lines names exists in its package.
func TestProtocolTable(t *testing.T) {
	text := string(must(os.ReadFile("../doc/reference/protocols-ocsp-crl.md"))(t))
	named := regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz|Benchmark)[A-Za-z0-9]+)`").FindAllStringSubmatch(text, -1)
	if len(named) < 50 {
		t.Fatalf("the table names %d tests", len(named))
	}
	sources := map[string]string{}
	for _, m := range named {
		pkg, test := m[1], m[2]
		if sources[pkg] == "" {
			for _, f := range must(filepath.Glob(filepath.Join("..", pkg, "*.go")))(t) {
				sources[pkg] += string(must(os.ReadFile(f))(t))
			}
		}
		if !strings.Contains(sources[pkg], "func "+test+"(") {
			t.Errorf("there is no %s in %s", test, pkg)
		}
	}
	for _, line := range strings.Split(text, "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 4 && !strings.HasPrefix(cells[1], "---") && cells[1] != " line " {
			if !strings.Contains(cells[2], "`") && !strings.Contains(cells[2], "not applicable: ") && !strings.Contains(cells[2], "not built: ") {
				t.Errorf("no test and no reason: %s", line)
			}
		}
	}
}
