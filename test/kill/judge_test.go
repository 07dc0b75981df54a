package kill

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
	"bulkhead/pki/tlog"
	"bulkhead/run"
)

// publicWithin bounds the wait for what is public to say what the record says.
const publicWithin = time.Minute

// judge holds everything that the driver was told against the running server, the record and the evidence.
func (d *driver) judge(h *house) {
	h.t.Helper()
	d.uniqueSerials()
	cfg, err := run.LoadConfig(h.dir)
	ok(h.t, err)
	store, err := run.OpenStore(context.Background(), h.dir, cfg)
	ok(h.t, err)
	defer store.Close()
	rows := inventory(h.t, store)
	outcomes := outcomes(h.t, store)
	lists := map[string]map[string]bool{}
	for _, x := range d.all {
		row, is := rows[x.ref]
		switch {
		case !is:
			h.t.Errorf("%s was received and is not in the record", x.ref)
			continue
		case row.Fingerprint != bulkhead.Digest(x.leaf.Raw):
			h.t.Errorf("%s: the record holds another certificate", x.ref)
		case outcomes[x.ref] != bulkhead.Digest(x.leaf.Raw):
			h.t.Errorf("%s was received and is not in evidence", x.ref)
		case x.acked && row.State != bulkhead.Revoked:
			h.t.Errorf("the revocation of %s was acknowledged, the record says %s\n%s", x.ref, row.State, h.log)
		case !x.asked && row.State != bulkhead.Issued:
			h.t.Errorf("nobody asked to revoke %s, the record says %s", x.ref, row.State)
		}
		d.public(h.t, store, x, lists)
	}
	d.neverSigned(h, store, rows)
}

func (d *driver) uniqueSerials() {
	d.t.Helper()
	seen := map[bulkhead.CertificateRef]bool{}
	for _, x := range d.all {
		if seen[x.ref] {
			d.t.Errorf("serial %s was given out twice", x.ref)
		}
		seen[x.ref] = true
	}
}

// public asks OCSP and the CRL that the certificate itself names, until both say what the record says: what an interrupted call has
// asked for may go on meanwhile, and the edge looks every half second.
func (d *driver) public(t testing.TB, store run.Store, x *held, lists map[string]map[string]bool) {
	t.Helper()
	at := x.leaf.CRLDistributionPoints[0]
	for end := time.Now().Add(publicWithin); ; time.Sleep(50 * time.Millisecond) {
		row, _, err := store.Certificate(context.Background(), x.ref)
		ok(t, err)
		if lists[at] == nil {
			lists[at] = fetch(t, at, x.issuer)
		}
		revoked, listed, said := row.State == bulkhead.Revoked, lists[at][x.leaf.SerialNumber.String()], ""
		switch r, err := ask(x, x.leaf.SerialNumber); {
		case err != nil:
			said = "OCSP says " + err.Error()
		case (r.Status == ocsp.Revoked) != revoked || !revoked && r.Status != ocsp.Good:
			said = fmt.Sprintf("OCSP says %d", r.Status)
		case listed != revoked:
			said = fmt.Sprintf("on the CRL: %v", listed)
		default:
			return
		}
		if time.Now().After(end) {
			t.Errorf("%s is %s in the record, %s", x.ref, row.State, said)
			return
		}
		delete(lists, at)
	}
}

// neverSigned asks for serials that were reserved or abandoned, and for random ones: there must be no signed answer, unless an order that
// was interrupted has gone on meanwhile.
func (d *driver) neverSigned(h *house, store run.Store, rows map[bulkhead.CertificateRef]bulkhead.Certificate) {
	h.t.Helper()
	sample := map[bulkhead.AuthorityID]*held{}
	for _, x := range d.all {
		sample[x.ref.Issuer] = x
	}
	dead := 0
	for ref, row := range rows {
		if x := sample[ref.Issuer]; x != nil && (row.State == bulkhead.Reserved || row.State == bulkhead.Abandoned) {
			dead++
			if r, err := ask(x, ref.Serial.Big()); err == nil {
				now, _, err := store.Certificate(context.Background(), ref)
				ok(h.t, err)
				if row.State == bulkhead.Abandoned || now.State != bulkhead.Issued {
					h.t.Errorf("%s is %s and has a signed answer, %d", ref, now.State, r.Status)
				}
			}
		}
	}
	for _, x := range sample {
		n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		ok(h.t, err)
		if r, err := ask(x, n); err == nil {
			h.t.Errorf("a random serial under %s has a signed answer, %d", x.ref.Issuer, r.Status)
		}
	}
	h.t.Logf("asked for %d serials that were reserved and never signed", dead)
}

// asker is a relying party that does not wait for ever.
var asker = &http.Client{Timeout: 30 * time.Second}

func ask(x *held, serial *big.Int) (*ocsp.Response, error) {
	leaf := *x.leaf
	leaf.SerialNumber = serial
	der, err := asked(asker, &leaf, x.issuer, x.leaf.OCSPServer[0], crypto.SHA1)
	if err != nil {
		return nil, err
	}
	return ocsp.ParseResponseForCert(der, &leaf, x.issuer)
}

func fetch(t testing.TB, address string, issuer *x509.Certificate) map[string]bool {
	t.Helper()
	res, err := asker.Get(address) //nolint:noctx,gosec // a test against loopback
	ok(t, err)
	defer res.Body.Close()
	der, err := io.ReadAll(res.Body)
	ok(t, err)
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatalf("%s: %s: %v", address, res.Status, err)
	}
	ok(t, list.CheckSignatureFrom(issuer))
	serials := map[string]bool{}
	for _, e := range list.RevokedCertificateEntries {
		serials[e.SerialNumber.String()] = true
	}
	return serials
}

func inventory(t testing.TB, store run.Store) map[bulkhead.CertificateRef]bulkhead.Certificate {
	t.Helper()
	all := map[bulkhead.CertificateRef]bulkhead.Certificate{}
	f := bulkhead.CertificateFilter{Limit: 1000}
	for {
		page, next, err := store.Certificates(context.Background(), f)
		ok(t, err)
		for _, c := range page {
			if _, twice := all[c.CertificateRef]; twice {
				t.Errorf("serial %s stands twice in the record", c.CertificateRef)
			}
			all[c.CertificateRef] = c
		}
		if next == "" {
			return all
		}
		f.After = next
	}
}

// outcomes reads evidence: what certificate was concluded for which serial. No serial is announced twice.
func outcomes(t testing.TB, store run.Store) map[bulkhead.CertificateRef]bulkhead.Hash {
	t.Helper()
	all, intents := map[bulkhead.CertificateRef]bulkhead.Hash{}, map[bulkhead.CertificateRef]bool{}
	var after int64
	for {
		rows, err := store.EvidenceAfter(context.Background(), after, 1000)
		ok(t, err)
		for _, r := range rows {
			e, err := tlog.Parse(r.Leaf)
			ok(t, err)
			ref := bulkhead.CertificateRef{Issuer: e.Authority, Serial: e.Serial}
			switch e.Kind {
			case bulkhead.EvCertificateIntent:
				if intents[ref] {
					t.Errorf("serial %s was announced twice", ref)
				}
				intents[ref] = true
			case bulkhead.EvCertificateOutcome:
				all[ref] = e.Digest
			}
			after = r.Seq
		}
		if len(rows) == 0 {
			return all
		}
	}
}

func (d *driver) summary() string {
	acked := 0
	for _, x := range d.all {
		if x.acked {
			acked++
		}
	}
	return fmt.Sprintf("%d certificates received, %d revocations acknowledged, %d calls interrupted", len(d.all), acked, d.errors)
}
