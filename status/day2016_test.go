package status_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/pack"
	"bulkhead/status"
)

var update = flag.Bool("update", false, "write golden files")

// The serial numbers that stood on the CRL of October 2016: the cross-certificate for Root R1's name and key by Root R2,
// and the intermediate of an authority that had reached its end.
const (
	crossSerial = "040000000001444ef0464e"
	oldSerial   = "0400000000011256ad5fb2"
)

var october2016 = time.Date(2016, 10, 13, 16, 0, 0, 0, time.UTC)

// day2016 is the hierarchy of that day: three roots, the product lines Domain, Organisation, Alpha and Cloud under R1,
// extended validation and document signing under another root, R1 cross-signed by R2, and stand-by certificates of Domain
// and Organisation by the other root. Alpha and Cloud had none.
type day2016 struct {
	*house
	certs map[bulkhead.AuthorityID]*x509.Certificate
	refs  map[string]bulkhead.CertificateRef // of certificates of authorities, by what they are
}

func newDay2016(t testing.TB) *day2016 {
	t.Helper()
	d := &day2016{house: bareHouse(t), certs: map[bulkhead.AuthorityID]*x509.Certificate{}, refs: map[string]bulkhead.CertificateRef{}}
	d.shift.Store(int64(october2016.Sub(epoch)))
	d.makeRoot("r1", "Root R1", 1998, "040000000001154b5ac394")
	d.makeRoot("r2", "Root R2", 2006, "0400000000010f8626e60d")
	d.makeRoot("r3", "Root R3", 2009, "04000000000121585308a2")
	for i, x := range []struct {
		id, name, parent, product string
		leaves                    int
	}{{"domain", "Domain Validation CA", "r1", "domain-ssl", 12}, {"organisation", "Organisation Validation CA", "r1", "organisation-ssl", 7},
		{"alpha", "Alpha CA", "r1", "alpha-ssl", 5}, {"cloud", "Cloud CA", "r1", "cloud-ssl", 3},
		{"extended", "Extended Validation CA", "r3", "ev-ssl", 4}, {"document", "Document Signing CA", "r3", "document-signing", 2}} {
		id := bulkhead.AuthorityID(x.id)
		d.makeCA(id, x.name, bulkhead.AuthorityID(x.parent), fmt.Sprintf("040000000001444ef0%04x", 0x3e20+i))
		for n := range x.leaves {
			c := d.row(id, func(c *bulkhead.Certificate) {
				c.Profile, c.NotAfter = x.product, d.now().Add(time.Duration(30+n)*day)
				c.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: fmt.Sprintf("www%d.%s.test", n, x.id)}}
			})
			d.plant(c, []byte("certificate "+c.CertificateRef.String()))
		}
	}
	d.makeCA("extended-sha1", "Extended Validation SHA-1 CA", "r2", oldSerial)
	gone := d.row("extended-sha1", func(c *bulkhead.Certificate) {
		c.Profile, c.NotBefore, c.NotAfter = "ev-ssl-sha1", d.now().Add(-700*day), d.now().Add(-30*day)
	})
	d.plant(gone, []byte("an old certificate"))
	d.plantCA("cross", "r2", d.cross("r1", "r2", crossSerial, 2014))
	d.plantCA("domain standby", "r3", d.cross("domain", "r3", "04000000000155aa01", 2015))
	d.plantCA("organisation standby", "r3", d.cross("organisation", "r3", "04000000000155aa02", 2015))
	ok(t, d.status.Start(t.Context()))
	return d
}

func year(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }

func hexSerial(t testing.TB, text string) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.ParseSerial(text)
	ok(t, err)
	return s
}

func template(t testing.TB, name, serial string, from, to int) *x509.Certificate {
	return &x509.Certificate{SerialNumber: hexSerial(t, serial).Big(), Subject: pkix.Name{CommonName: name}, NotBefore: year(from), NotAfter: year(to),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
}

// put records an authority with its certificate and key.
func (d *day2016) put(id bulkhead.AuthorityID, kind bulkhead.AuthorityKind, parent bulkhead.AuthorityID, uri string, der []byte) *x509.Certificate {
	d.t.Helper()
	cert, err := x509.ParseCertificate(der)
	ok(d.t, err)
	a := bulkhead.Authority{ID: id, Kind: kind, State: bulkhead.AuthorityActive, Parent: parent, Subject: cert.RawSubject, SPKI: cert.RawSubjectPublicKeyInfo,
		Certificate: der, KeyURI: uri, Shards: 1, CreatedAt: d.now()}
	for p := parent; p != ""; p = d.authority(p).Parent {
		a.Chain = append(a.Chain, d.certs[p].Raw)
	}
	ok(d.t, d.store.PutAuthority(context.Background(), a))
	d.certs[id] = cert
	return cert
}

func (d *day2016) makeRoot(id bulkhead.AuthorityID, name string, from int, serial string) {
	d.t.Helper()
	uri, key, err := d.ring.Generate(d.t.Context(), string(id), keys.P256)
	ok(d.t, err)
	d.put(id, bulkhead.IssuingAuthority, "", uri, selfSigned(d.t, template(d.t, name, serial, from, 2028), key)) // the signer opens no key of a root; this house has them online
}

func selfSigned(t testing.TB, tmpl *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	ok(t, err)
	return der
}

func (d *day2016) makeCA(id bulkhead.AuthorityID, name string, parent bulkhead.AuthorityID, serial string) {
	d.t.Helper()
	uri, key, err := d.ring.Generate(d.t.Context(), string(id), keys.P256)
	ok(d.t, err)
	der, err := x509.CreateCertificate(rand.Reader, template(d.t, name, serial, 2014, 2024), d.certs[parent], key.Public(), d.key(parent))
	ok(d.t, err)
	d.put(id, bulkhead.IssuingAuthority, parent, uri, der)
	d.plantCA(string(id), parent, der)
}

// cross is a certificate of an authority's name and key by another.
func (d *day2016) cross(subject, issuer bulkhead.AuthorityID, serial string, from int) []byte {
	d.t.Helper()
	tmpl := template(d.t, d.certs[subject].Subject.CommonName, serial, from, 2024)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, d.certs[issuer], d.certs[subject].PublicKey, d.key(issuer))
	ok(d.t, err)
	return der
}

func (d *day2016) key(id bulkhead.AuthorityID) any {
	d.t.Helper()
	key, err := d.ring.Open(d.t.Context(), d.authority(id).KeyURI)
	ok(d.t, err)
	return key
}

// plantCA records a certificate of an authority among what its issuer issued.
func (d *day2016) plantCA(what string, issuer bulkhead.AuthorityID, der []byte) {
	d.t.Helper()
	cert, err := x509.ParseCertificate(der)
	ok(d.t, err)
	serial, err := bulkhead.SerialFromBig(cert.SerialNumber)
	ok(d.t, err)
	d.refs[what] = d.plant(bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: issuer, Serial: serial}, Kind: bulkhead.CACertificate, Profile: "issuing",
		Subject: cert.Subject.String(), KeyHash: bulkhead.Digest(cert.RawSubjectPublicKeyInfo), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}, der)
}

// plan previews a revocation.
func (h *house) previewed(reason bulkhead.Reason, refs ...bulkhead.CertificateRef) (bulkhead.Change, status.Preview) {
	h.t.Helper()
	c, err := h.status.PlanRevocation(h.t.Context(), "operator:anna", "routine", items(reason, refs...))
	ok(h.t, err)
	var p status.Preview
	ok(h.t, json.Unmarshal(c.Preview, &p))
	return c, p
}

// matchByKey is the fault of October 2016 in the house's own answer function: a certificate is revoked when its issuer has
// the name and key of something that is.
func (d *day2016) matchByKey(change string, a *bulkhead.ShadowAnswer) {
	list, err := d.store.ChangeItems(context.Background(), change, bulkhead.CertificateRef{}, 100)
	ok(d.t, err)
	issuer := d.certs[a.After.Issuer]
	for _, it := range list {
		_, der, err := d.store.Certificate(context.Background(), it.CertificateRef)
		ok(d.t, err)
		if c, err := x509.ParseCertificate(der); err == nil && bytes.Equal(c.RawSubject, issuer.RawSubject) && bytes.Equal(c.RawSubjectPublicKeyInfo, issuer.RawSubjectPublicKeyInfo) {
			a.After.State, a.After.Reason, a.After.RevokedAt = bulkhead.Revoked, it.Reason, it.RevokedAt
		}
	}
}

var volatile = regexp.MustCompile(`"(change|world|items)": "[^"]*"`)

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		ok(t, os.MkdirAll("testdata", 0o755))
		ok(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	ok(t, err)
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s", path, got)
	}
}

// TestDay2016 previews the change of that day: the cross-certificate and the old intermediate, by R2, for the reason that
// was given. It touches two answers and no path of anybody who has R1; who has only R2 loses what is under R1. Then it is
// carried through, and what is said of everything under R1 stays as it was, octet by octet.
func TestDay2016(t *testing.T) {
	t.Parallel()
	d := newDay2016(t)
	c, p := d.previewed(bulkhead.CessationOfOperation, d.refs["cross"], d.refs["extended-sha1"])
	pretty, err := json.MarshalIndent(p, "", "  ")
	ok(t, err)
	golden(t, "day2016.json", volatile.ReplaceAllString(string(pretty), `"$1": "…"`)+"\n")
	golden(t, "day2016.txt", p.Words())
	if p.AnswersChanged != 2 || len(p.Blocked) != 0 || p.Shadow.Outside != 0 {
		t.Errorf("answers %d, outside %d, blocked %v", p.AnswersChanged, p.Shadow.Outside, p.Blocked)
	}
	before := map[bulkhead.CertificateRef]pack.Entry{}
	for what, ref := range d.refs {
		e, found := d.answer(ref)
		if !found {
			t.Fatalf("%s has no answer", what)
		}
		before[ref] = e
	}
	wantKind(t, d.status.ActivateByOne(t.Context(), "operator:anna", c.ID, c.PreviewHash), bulkhead.KindGate, "take")
	ok(t, d.status.Approve(t.Context(), c.ID, c.PreviewHash, "two people"))
	ok(t, d.status.Activate(t.Context(), c.ID))
	for what, ref := range d.refs {
		e, _ := d.answer(ref)
		changed := what == "cross" || what == "extended-sha1"
		if same := bytes.Equal(e.TBS, before[ref].TBS) && bytes.Equal(e.Signature256, before[ref].Signature256); same == changed || e.Revoked != changed {
			t.Errorf("%s: the same octets: %v, revoked: %v", what, same, e.Revoked)
		}
	}
	d.agree()
}

// TestMatchByKeyBlocks plants the fault of 2016 in the answer function: the preview names the intermediates of R1, the
// change cannot be approved or activated, and nothing goes public. Without the fault the same change is free.
func TestMatchByKeyBlocks(t *testing.T) {
	t.Parallel()
	d := newDay2016(t)
	head := d.head().Sequence
	d.door.shadow = d.matchByKey
	c, p := d.previewed(bulkhead.CessationOfOperation, d.refs["cross"])
	var names []string
	for _, x := range p.Shadow.Samples {
		names = append(names, string(x.Issuer)+" "+x.Name)
	}
	want := []string{"r1 CN=Alpha CA", "r1 CN=Cloud CA", "r1 CN=Domain Validation CA", "r1 CN=Organisation Validation CA"}
	// R1's OCSP delegate is among what R1 issued.
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "r1 CN=") || strings.Contains(n, "OCSP") })
	if !slices.Equal(names, want) {
		t.Errorf("outside the change: %v, want %v", names, want)
	}
	if len(p.Blocked) != 1 || !strings.Contains(p.Blocked[0], "Domain Validation CA") || p.AnswersChanged != 1 {
		t.Errorf("blocked %v, %d answers of the change", p.Blocked, p.AnswersChanged)
	}
	wantKind(t, d.status.Approve(t.Context(), c.ID, c.PreviewHash, "two people"), bulkhead.KindGate, "answer function")
	wantKind(t, d.status.Activate(t.Context(), c.ID), bulkhead.KindConflict, "not approved")
	if d.head().Sequence != head || d.state(d.refs["cross"]) != bulkhead.Issued {
		t.Error("a blocked change moved something")
	}
	d.door.shadow = nil
	_, hash, err := d.status.Preview(t.Context(), c.ID)
	ok(t, err)
	ok(t, d.status.Approve(t.Context(), c.ID, hash, "two people"))
	ok(t, d.status.Activate(t.Context(), c.ID))
	if d.state(d.refs["cross"]) != bulkhead.Revoked || d.state(d.refs["domain"]) != bulkhead.Issued {
		t.Error("the change without the fault was not carried through")
	}
	// A fault that leaves out what the change names blocks as well.
	d.door.shadow = func(_ string, a *bulkhead.ShadowAnswer) { a.After = a.Before }
	if _, p := d.previewed(bulkhead.CessationOfOperation, d.refs["extended-sha1"]); len(p.Blocked) != 1 || !strings.Contains(p.Blocked[0], "would not become") || p.AnswersChanged != 0 {
		t.Errorf("an answer that stays good: %v", p.Blocked)
	}
}

// TestLosingOneAuthority: when one issuing authority is revoked, the preview names what hangs below it and nothing else.
func TestLosingOneAuthority(t *testing.T) {
	t.Parallel()
	d := newDay2016(t)
	c, p := d.previewed(bulkhead.CessationOfOperation, d.refs["alpha"])
	if len(p.PathsLost) != 3 || len(p.PathsReduced) != 0 { // R1, R2 by the cross-certificate, and all
		t.Fatalf("lost %+v, reduced %+v", p.PathsLost, p.PathsReduced)
	}
	for _, r := range p.PathsLost {
		if len(r.Authorities) != 0 || r.Leaves != 5 || len(r.Products) != 1 || r.Products[0].Product != "alpha-ssl" || r.Products[0].Samples[0] != "www4.alpha.test" {
			t.Errorf("%+v", r)
		}
	}
	if _, is := p.Unaffected["alpha"]; is || len(p.Unaffected) != 8 || p.Unaffected["domain"].Products[0] != "domain-ssl" {
		t.Errorf("unaffected %+v", p.Unaffected)
	}
	if p.AnswersChanged != 1 || p.Shadow.Recomputed < 5 || len(p.Misread) != 0 || len(p.Blocked) != 0 {
		t.Errorf("%+v", p)
	}
	before, _ := d.answer(d.refs["domain"])
	ok(t, d.status.Approve(t.Context(), c.ID, c.PreviewHash, "two people"))
	ok(t, d.status.Activate(t.Context(), c.ID))
	if after, _ := d.answer(d.refs["domain"]); !bytes.Equal(before.TBS, after.TBS) || after.Revoked {
		t.Error("the answer for another authority is not the same")
	}
}

// TestAuthorityNeedsReason: a certificate of an authority is not revoked without a reason, nor held (BR 7.2.2).
func TestAuthorityNeedsReason(t *testing.T) {
	t.Parallel()
	d := newDay2016(t)
	c, p := d.previewed(bulkhead.Unspecified, d.refs["alpha"])
	if len(p.Blocked) != 1 || !strings.Contains(p.Blocked[0], "needs a reason") || len(p.PathsLost) == 0 {
		t.Errorf("blocked %v", p.Blocked)
	}
	wantKind(t, d.status.Approve(t.Context(), c.ID, c.PreviewHash, "two people"), bulkhead.KindGate, "needs a reason")
	_, err := d.status.Plan(t.Context(), "test", "why", items(bulkhead.CertificateHold, d.refs["alpha"]))
	wantKind(t, err, bulkhead.KindBadRevocationReason, "authority")
	_, err = d.status.RevokeCertificates(t.Context(), "test", "why", items(bulkhead.Superseded, d.refs["alpha"]))
	wantKind(t, err, bulkhead.KindGate, "take")
	if d.state(d.refs["alpha"]) != bulkhead.Issued {
		t.Error("it was revoked")
	}
	// With a reason, answer and CRL give the same one.
	c, _ = d.previewed(bulkhead.CessationOfOperation, d.refs["alpha"])
	ok(t, d.status.Approve(t.Context(), c.ID, c.PreviewHash, "two people"))
	ok(t, d.status.Activate(t.Context(), c.ID))
	w := d.world()
	w.refresh()
	said := w.ask(d.refs["alpha"])
	if said.ocsp[0] != "revoked "+said.listed || said.ocsp[1] != said.ocsp[0] || !strings.HasPrefix(said.listed, "cessationOfOperation ") {
		t.Errorf("%+v", said)
	}
}
