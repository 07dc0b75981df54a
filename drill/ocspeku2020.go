package drill

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/graph"
	"bulkhead/pki/ocsp"
	"bulkhead/run"
)

// ocspEKU2020 is the day on which intermediates turned out to be able to answer for their siblings.
var ocspEKU2020 = Day{
	Name: "ocsp-eku-2020", Title: "Intermediates with OCSPSigning can forge the status of their siblings: replace a whole issuing authority",
	Source: "SAKURA internet, column on the incident of July 2020",
	Historic: []Moment{
		{0, "2020-07", "intermediates of 14 authorities are found with the extended key usage OCSPSigning; by the rules they must be revoked within 7 days, and their keys destroyed"},
		{0, "2020-07", "an answer that such an intermediate forged for its sibling would be believed, and nobody would have seen it"},
		{28 * day24, "07-29", "a new intermediate issues; what is sold from now on is not concerned"},
		{120 * day24, "months", "millions of certificates below the old ones are replaced over months to half a year, not within 7 days"},
		{120 * day24, "after that", "the old intermediates are revoked and their keys destroyed"},
	},
	Wants: []string{"S1-1", "S1-2", "S1-3", "S1-4", "S1-7", "S1-8", "S1-9", "S1-12"},
	run:   playOCSPEKU2020,
}

var oidEKU = asn1.ObjectIdentifier{2, 5, 29, 37}

// day2020 is the day while it is played.
type day2020 struct {
	*Stage
	house  *shadow
	root   bulkhead.AuthorityID
	old    bulkhead.AuthorityID
	next   bulkhead.AuthorityID
	cert   []byte                  // of the new authority
	sample bulkhead.CertificateRef // one below the old authority
}

func playOCSPEKU2020(_ context.Context, s *Stage) error {
	d := &day2020{Stage: s, old: "issuing-p256", next: "issuing-2020"}
	for _, act := range []func() error{d.build, d.audit, d.forge, d.detect, d.refuse, d.replace, d.campaign, d.revoke, d.destroy} {
		if err := act(); err != nil {
			return err
		}
	}
	s.measured("audit of the certificates, forged answers held against our check (and OpenSSL where it is on the PATH), the gates of the ceremony, the forged answer at a node and the probes that find it, a new issuing authority by the code of the ceremony under the root of the first start, rotation, campaign, revocations, the old authority's revocation by the ceremony of its root, the destruction of its key with two people's signatures and the status that was sealed before: real compartments")
	s.simulated("the six authorities of the audit are made for it; subscribers: the certificates below the old authority are of the house's own accounts, on two product lines, both for TLS")
	s.simulated("not in this drill: OpenSSL and GnuTLS looking at each change, because they go by the machine's clock and this day has its own; the root's ceremonies run in this process and not on a machine apart (bulkhead-root); witnesses are the two operators of the first start")
	return nil
}

func (d *day2020) build() error {
	var err error
	if d.house, err = d.Stage.house("house", []string{"domain-ssl", "organisation-ssl"}, ownClock, nil); err != nil {
		return err
	}
	n := d.o.Scale
	if n <= 0 {
		n = 12
	}
	for i := range n {
		if _, err := d.house.reh.Issue(d.ctx, d.old, []string{"domain-ssl", "organisation-ssl"}[i%2], fmt.Sprintf("w%d.house.test", i)); err != nil {
			return err
		}
	}
	if err := d.house.start(); err != nil {
		return err
	}
	if err := d.house.look(); err != nil {
		return err
	}
	d.began = d.clock.now().UTC().Truncate(time.Second)
	d.say(fmt.Sprintf("A house with %d certificates below %s on two product lines", n, d.old))
	return nil
}

// caOf makes the certificate of an authority; a nil parent is a root.
func (d *day2020) caOf(name string, serial int64, key *ecdsa.PrivateKey, parent *x509.Certificate, by *ecdsa.PrivateKey, ekus ...x509.ExtKeyUsage) (*x509.Certificate, error) {
	now := d.clock.now().UTC()
	t := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, Organization: []string{"Rehearsal"}, Country: []string{"JP"}}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(5, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: ekus}
	if parent == nil {
		parent, by = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), by)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return x509.ParseCertificate(der)
}

// audit holds six certificates of authorities against the rule, of which two are dangerous.
func (d *day2020) audit() error {
	var k [6]*ecdsa.PrivateKey
	for i := range k {
		var err error
		if k[i], err = newKey(); err != nil {
			return err
		}
	}
	tls := x509.ExtKeyUsageServerAuth
	root, err := d.caOf("Fixture Root", 0x2001, k[0], nil, nil)
	if err != nil {
		return err
	}
	other, err := d.caOf("Fixture Other Root", 0x2002, k[1], nil, nil)
	if err != nil {
		return err
	}
	all := []*x509.Certificate{root, other}
	for _, x := range []struct {
		name   string
		serial int64
		key    *ecdsa.PrivateKey
		parent *x509.Certificate
		by     *ecdsa.PrivateKey
		ekus   []x509.ExtKeyUsage
	}{
		{"Fixture TLS CA", 0x2003, k[2], root, k[0], []x509.ExtKeyUsage{tls, x509.ExtKeyUsageOCSPSigning}},
		{"Fixture Mail CA", 0x2004, k[3], root, k[0], []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection, x509.ExtKeyUsageOCSPSigning}},
		{"Fixture Clean CA", 0x2005, k[4], root, k[0], []x509.ExtKeyUsage{tls}},
		{"Fixture Clean CA", 0x2006, k[4], other, k[1], []x509.ExtKeyUsage{tls}}, // cross-certificate
	} {
		c, err := d.caOf(x.name, x.serial, x.key, x.parent, x.by, x.ekus...)
		if err != nil {
			return err
		}
		all = append(all, c)
	}
	dir := filepath.Join(d.dir, "fixture")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("fixture: %w", err)
	}
	for i, c := range all {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("ca-%d.pem", i)), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}), 0o644); err != nil {
			return fmt.Errorf("fixture: %w", err)
		}
	}
	r, err := run.AuditHierarchy(d.ctx, []string{dir}, nil, d.clock.now())
	if err != nil {
		return err
	}
	subject := map[string]string{}
	for _, c := range r.Certificates {
		subject[c.SHA256] = c.Subject
	}
	var lines, named []string
	victims := true
	for _, f := range r.Findings {
		if f.Rule != graph.RuleOCSPSigning {
			continue
		}
		named = append(named, f.SHA256)
		var whom []string
		for _, v := range f.Victims {
			whom = append(whom, subject[v])
		}
		victims = victims && f.VictimsTotal == 2 && slices.Contains(f.Victims, bulkhead.Digest(all[4].Raw).String()) && !slices.Contains(f.Victims, bulkhead.Digest(all[5].Raw).String())
		lines = append(lines, f.Subject+" could answer for "+strings.Join(whom, "; "))
	}
	right := len(named) == 2 && slices.Contains(named, bulkhead.Digest(all[2].Raw).String()) && slices.Contains(named, bulkhead.Digest(all[3].Raw).String())
	d.say(fmt.Sprintf("The audit of %d authorities names the %d that can answer for their siblings", len(r.Certificates), len(named)), lines...)
	d.check("S1-2", right && victims, "of six certificates exactly the two dangerous ones are named, each with the siblings whose status it could forge", "%d named; %s", len(named), strings.Join(lines, " | "))
	return nil
}

// forge shows the forged answers.
func (d *day2020) forge() error {
	r, err := run.ForgedOCSP(d.ctx, "", time.Now()) // OpenSSL looks at the machine's own clock
	if err != nil {
		return err
	}
	var lines []string
	for _, c := range r.Cases {
		lines = append(lines, fmt.Sprintf("%s by %s: ours: %s; beside it: %s", c.Case, c.Signer, c.Ours, c.Verdict))
	}
	d.say("Answers forged as they could have been then; beside our check: "+r.OpenSSL, lines...)
	d.check("S1-3", r.Sound && len(r.Cases) > 3, "our check believes the lawful responder and nobody else; what OpenSSL believes is said", "%d answers; beside our check: %s", len(r.Cases), r.OpenSSL)
	return nil
}

// refuse: neither the ceremony nor the acceptance of a certificate lets that usage pass.
func (d *day2020) refuse() error {
	key, err := newKey()
	if err != nil {
		return err
	}
	try := func(usage asn1.ObjectIdentifier) error {
		value, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 1}, usage})
		if err != nil {
			return err
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Wrong CA"}, ExtraExtensions: []pkix.Extension{{Id: oidEKU, Value: value}}}, key)
		if err != nil {
			return err
		}
		_, _, err = d.house.reh.RootCeremony(d.ctx, "wrong", csr, "Wrong CA", 1000)
		return err
	}
	signing, every := try(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 9}), try(asn1.ObjectIdentifier{2, 5, 29, 37, 0})
	pending, err := d.house.roles.Hierarchy.AddAuthority(d.ctx, "operator:operator-1", "foreign", "p256", "", "", "")
	if err != nil {
		return err
	}
	request, err := x509.ParseCertificateRequest(pending.CSR)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	root, err := d.caOf("Foreign Root", 0x2010, key, nil, nil)
	if err != nil {
		return err
	}
	now := d.clock.now().UTC()
	t := &x509.Certificate{SerialNumber: big.NewInt(0x2011), RawSubject: request.RawSubject, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(3, 0, 0), IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageOCSPSigning}}
	der, err := x509.CreateCertificate(rand.Reader, t, root, request.PublicKey, key)
	if err != nil {
		return fmt.Errorf("foreign certificate: %w", err)
	}
	_, foreign := d.house.roles.Hierarchy.AcceptAuthority(d.ctx, "operator:operator-1", "foreign", der, [][]byte{root.Raw})
	ok := true
	for _, err := range []error{signing, every, foreign} {
		ok = ok && err != nil && strings.Contains(strings.ToLower(err.Error()), "usage")
	}
	d.say("A ceremony with that usage is refused before anything is signed; so is a certificate that a foreign root signed with it", fmt.Sprint(signing), fmt.Sprint(every), fmt.Sprint(foreign))
	d.check("S1-1", ok, "no authority with OCSPSigning or anyExtendedKeyUsage is signed or accepted", "%v; %v; %v", signing, every, foreign)
	return nil
}

// replace makes the successor by ceremony and switches to it.
func (d *day2020) replace() error {
	d.clock.advance(time.Hour)
	a, err := d.house.roles.Hierarchy.AddAuthority(d.ctx, "operator:operator-1", d.next, "p256", "", "", d.old)
	if err != nil {
		return err
	}
	cert, chain, err := d.house.reh.RootCeremony(d.ctx, d.next, a.CSR, "Issuing 2020", 3*365)
	if err != nil {
		return err
	}
	before, err := d.house.reh.Issue(d.ctx, "", "domain-ssl", "before.house.test")
	if err != nil {
		return err
	}
	took := time.Now()
	if _, err := d.house.roles.Hierarchy.AcceptAuthority(d.ctx, "operator:operator-1", d.next, cert, chain); err != nil {
		return err
	}
	after, err := d.house.reh.Issue(d.ctx, "", "domain-ssl", "after.house.test")
	if err != nil {
		return err
	}
	_, gone := d.house.reh.Issue(d.ctx, d.old, "domain-ssl", "late.house.test")
	served := len(after.Chain) == 2 && string(after.Chain[0]) == string(cert)
	d.cert = cert
	d.say(fmt.Sprintf("A new issuing authority, by ceremony; %s after its certificate came back new certificates come from it, with its chain (on the day: weeks)", time.Since(took).Round(time.Millisecond)))
	d.check("S1-12", before.Certificate.Issuer == d.old && after.Certificate.Issuer == d.next && served && gone != nil, "the chain switches as soon as the new authority is live, and the old one issues no more", "before %s, after %s; an order at the old one: %v", before.Certificate.Issuer, after.Certificate.Issuer, gone)
	return nil
}

// campaign replaces and revokes everything below the old authority.
func (d *day2020) campaign() error {
	want, err := d.house.reh.RehearsedChildren(d.ctx, d.old, d.clock.now())
	if err != nil {
		return err
	}
	desk := d.house.reh.Desk()
	reason := bulkhead.Superseded
	i, err := desk.Open(d.ctx, "operator:operator-1", bulkhead.IncidentIntake{Title: "an issuing authority must go", Playbook: "ocsp-eku-2020", Reason: &reason, Scope: bulkhead.Scope{Issuers: []bulkhead.AuthorityID{d.old}}})
	if err != nil {
		return err
	}
	c, _, err := desk.Plan(d.ctx, "operator:operator-1", bulkhead.CampaignRequest{Incident: i.ID, Needs: &bulkhead.CampaignNeeds{}})
	if err != nil {
		return err
	}
	if err := d.house.reh.StartCampaign(d.ctx, c, "everything below the old authority"); err != nil {
		return err
	}
	if c, err = desk.Campaign(d.ctx, c.ID); err != nil {
		return err
	}
	items, err := desk.CampaignItems(d.ctx, c.ID, bulkhead.CampaignItemFilter{Limit: 100_000})
	if err != nil {
		return err
	}
	got, total := map[string]int{}, 0
	for _, it := range items {
		cert, _, err := d.house.roles.Store.Certificate(d.ctx, it.CertificateRef)
		if err != nil {
			return err
		}
		got[cert.Profile]++
		d.sample = it.CertificateRef
	}
	equal := len(got) == len(want)
	for p, n := range want {
		equal, total = equal && got[p] == n, total+n
	}
	d.check("S1-8", equal && total == len(items) && len(want) >= 2, "the campaign over the authority has every certificate below it that has not ended, by product, as the record counts them", "record: %s; campaign: %s", counted(want), counted(got))
	if err := desk.Tick(d.ctx); err != nil {
		return err
	}
	for _, it := range items {
		if err := d.renew(it); err != nil {
			return err
		}
	}
	for range 3 {
		if err := desk.Tick(d.ctx); err != nil {
			return err
		}
		d.clock.advance(max(c.ForceAt.Sub(d.clock.now())/2, 10*time.Minute))
	}
	d.clock.advance(max(0, c.ForceAt.Sub(d.clock.now())) + 10*time.Minute)
	if err := desk.Tick(d.ctx); err != nil {
		return err
	}
	if err := d.house.look(); err != nil {
		return err
	}
	d.clock.advance(time.Minute)
	if err := desk.Tick(d.ctx); err != nil { // the desk sees what became of its changes
		return err
	}
	_, t, _, err := desk.Status(d.ctx, c.ID)
	if err != nil {
		return err
	}
	revoked := 0
	for _, it := range items {
		a, err := d.house.status(it.CertificateRef)
		if err != nil {
			return err
		}
		if a.State == ocsp.Revoked {
			revoked++
		}
	}
	d.say(fmt.Sprintf("Everything below the old authority was replaced from the new one and then revoked: %d of %d at the edge", revoked, total))
	d.check("S1-8", revoked == total && t.ByState[bulkhead.ItemRevoked] == t.Total && t.Overdue == 0, "all of them are replaced and revoked in time", "%d revoked of %d, %d overdue", revoked, total, t.Overdue)
	return nil
}

// renew replaces an item below the new authority.
func (d *day2020) renew(it bulkhead.CampaignItem) error {
	old, _, err := d.house.roles.Store.Certificate(d.ctx, it.CertificateRef)
	if err != nil || old.AccountID == "" {
		return err
	}
	acct, err := d.house.roles.Enroll.AnyAccount(d.ctx, old.AccountID)
	if err != nil {
		return err
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	csr, err := requestWith(key, it.Name)
	if err != nil {
		return err
	}
	got, err := d.house.reh.Order(d.ctx, acct, "", old.Profile, csr, it.CertificateRef)
	if err == nil && got.Certificate.Issuer != d.next {
		err = fmt.Errorf("%s was replaced from %s", it.Name, got.Certificate.Issuer)
	}
	return err
}
