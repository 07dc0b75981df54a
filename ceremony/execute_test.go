package ceremony

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"testing"

	"bulkhead"
	"bulkhead/keys"
)

func TestConfigIsChecked(t *testing.T) {
	for what, plant := range map[string]func(*Config){
		"no ring": func(c *Config) { c.Ring = nil }, "no clock": func(c *Config) { c.Now = nil },
		"no randomness": func(c *Config) { c.Rand = nil }, "nobody": func(c *Config) { c.Who = nil }, "no linter": func(c *Config) { c.Lint = nil },
	} {
		c := config(newRing(t))
		plant(&c)
		_, err := Execute(context.Background(), c, firstPlan(t, keys.P256))
		wantKind(t, what, err, bulkhead.KindUsage)
	}
}

// TestStepsRefuse plants faults that only show when the plan is carried out. A failed ceremony leaves no key behind.
func TestStepsRefuse(t *testing.T) {
	online := newRing(t)
	base := firstPlan(t, keys.P256)
	p384 := request(t, online, "p384", keys.P384)
	rsa := request(t, online, "rsa", keys.RSA2048)
	ctx := context.Background()
	for _, x := range []struct {
		what  string
		plant func(*Plan)
		want  bulkhead.Kind
	}{
		{"silent without a fault", func(*Plan) {}, ""},
		{"CSR that is none", func(p *Plan) { p.Steps[1].Issuing.Request.CSR = []byte("x") }, bulkhead.KindBadCSR},
		{"CSR without proof", func(p *Plan) { csr := p.Steps[1].Issuing.Request.CSR; csr[len(csr)-1] ^= 1 }, bulkhead.KindBadCSR},
		{"delegates that share a key", func(p *Plan) { p.Steps[4].Delegate.Requests[1] = p.Steps[4].Delegate.Requests[0] }, bulkhead.KindGate},
		{"P-384 delegate", func(p *Plan) { p.Steps[4].Delegate.Requests[0] = p384 }, bulkhead.KindGate},
		{"RSA delegate", func(p *Plan) { p.Steps[4].Delegate.Requests[0] = rsa }, bulkhead.KindGate},
		{"parent without a key here", func(p *Plan) { p.Steps[5].CRL.Authority = "issuing-p256" }, bulkhead.KindConflict},
		{"revoked without a reason", func(p *Plan) { p.Steps[5].CRL.Revoked = []RevokedChild{{Serial: serialOf(t, 1), At: testNow}} }, bulkhead.KindBadRevocationReason},
		{"revoked as unspecified", func(p *Plan) {
			p.Steps[5].CRL.Revoked = []RevokedChild{{Serial: serialOf(t, 1), At: testNow, Reason: "unspecified"}}
		}, bulkhead.KindGate},
		{"put on hold", func(p *Plan) {
			p.Steps[5].CRL.Revoked = []RevokedChild{{Serial: serialOf(t, 1), At: testNow, Reason: "certificateHold"}}
		}, bulkhead.KindGate},
		{"revoked tomorrow", func(p *Plan) {
			p.Steps[5].CRL.Revoked = []RevokedChild{{Serial: serialOf(t, 1), At: testNow.Add(day), Reason: "superseded"}}
		}, bulkhead.KindGate},
	} {
		p, ring := clone(t, base), newRing(t)
		x.plant(&p)
		r, err := Execute(ctx, config(ring), p)
		wantKind(t, x.what, err, x.want)
		uris, listErr := ring.List(ctx)
		if listErr != nil || (len(uris) == 0) != (err != nil) || (r == nil) != (err != nil) {
			t.Errorf("%s: keys %v, %v; result %v", x.what, uris, listErr, r != nil)
		}
	}
}

func serialOf(t *testing.T, n byte) bulkhead.Serial {
	t.Helper()
	s, err := bulkhead.SerialFromBytes([]byte{n})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestLintBlocks: what the gates let pass and the lint does not is refused too, here a CDP over LDAP.
func TestLintBlocks(t *testing.T) {
	b := newBench(t)
	tmpl := b.template(t, RoleIssuing)
	tmpl.CRLDistributionPoints = []string{"ldap://127.0.0.1/cn=root"}
	before := b.signed.uses
	if _, err := b.sign(tmpl, b.root.cert, b.root.signer, RoleIssuing); bulkhead.KindOf(err) != bulkhead.KindGate {
		t.Errorf("CDP over LDAP: %v", err)
	}
	if b.signed.uses != before {
		t.Error("refused after the key was used")
	}
}

// TestRandomnessFails: every failure of the random source ends the ceremony without a result and without a key.
func TestRandomnessFails(t *testing.T) {
	p := firstPlan(t, keys.P256)
	for _, n := range []int64{0, 8, 40} {
		ring := newRing(t)
		c := config(ring)
		c.Rand = io.LimitReader(c.Rand, n)
		r, err := Execute(context.Background(), c, p)
		if err == nil || r != nil {
			t.Errorf("after %d octets: %v", n, err)
		}
		if uris, err := ring.List(context.Background()); err != nil || len(uris) != 0 {
			t.Errorf("after %d octets: keys %v, %v", n, uris, err)
		}
	}
}

// stubbornRing hands out signers that fail after some uses.
type stubbornRing struct {
	keys.Ring
	left *int
}

type stubbornSigner struct {
	crypto.Signer
	left *int
}

var errToken = errors.New("token was pulled out")

func (r stubbornRing) Generate(ctx context.Context, name string, alg keys.Algorithm) (string, crypto.Signer, error) {
	uri, s, err := r.Ring.Generate(ctx, name, alg)
	return uri, stubbornSigner{s, r.left}, err
}

func (s stubbornSigner) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if *s.left--; *s.left < 0 {
		return nil, errToken
	}
	return s.Signer.Sign(random, digest, opts)
}

// TestKeyFailsAtEverySignature pulls the token out before each signature in turn.
func TestKeyFailsAtEverySignature(t *testing.T) {
	p := firstPlan(t, keys.P256)
	p.Steps[5].CRL.TurnoverDays, p.Steps[5].CRL.OverlapDays = 180, 60
	for n := 0; ; n++ {
		left, ring := n, newRing(t)
		r, err := Execute(context.Background(), config(stubbornRing{ring, &left}), p)
		if err == nil {
			if n < 1+3+4+3+1 {
				t.Errorf("a ceremony of %d signatures needed only %d", 12, n)
			}
			return
		}
		if r != nil || !errors.Is(err, errToken) {
			t.Fatalf("at signature %d: %v", n, err)
		}
		if uris, err := ring.List(context.Background()); err != nil || len(uris) != 0 {
			t.Errorf("at signature %d: keys %v, %v", n, uris, err)
		}
	}
}

// TestRootNameTaken: a second ceremony never touches the key of the first.
func TestRootNameTaken(t *testing.T) {
	ring := newRing(t)
	p := firstPlan(t, keys.P256)
	execute(t, config(ring), p)
	_, err := Execute(context.Background(), config(ring), p)
	wantKind(t, "second root of one name", err, bulkhead.KindConflict)
	if uris, err := ring.List(context.Background()); err != nil || len(uris) != 1 {
		t.Errorf("keys %v, %v", uris, err)
	}
}

func TestLaterCeremony(t *testing.T) {
	ctx := context.Background()
	ring := newRing(t)
	first := execute(t, config(ring), firstPlan(t, keys.P256))
	root := parse(t, first.Authorities[0].Certificate)
	later := config(ring)
	later.PreviousTranscript = first.Transcript
	plan := emergencyPlan(first)

	r := execute(t, later, plan)
	if r.Prepared[0].CRLNumber != 14 || len(r.Authorities) != 0 {
		t.Errorf("first CRL number of the second ceremony is %d", r.Prepared[0].CRLNumber)
	}
	transcript, err := VerifyTranscript(r.Transcript, root)
	if err != nil || transcript.Previous != bulkhead.Digest(first.Transcript) {
		t.Errorf("chain of transcripts: %v", err)
	}

	back := clone(t, plan)
	back.Steps[0].CRL.AfterNumber--
	_, err = Execute(ctx, later, back)
	wantKind(t, "CRL numbers that go back", err, bulkhead.KindGate)

	// A ceremony without CRLs in between does not make the numbers forgotten.
	between := Plan{Title: "one more", StatusURL: plan.StatusURL, Root: "root", Existing: plan.Existing, Steps: []Step{firstPlan(t, keys.P256).Steps[1]}}
	third := later
	third.PreviousTranscript = execute(t, later, between).Transcript
	_, err = Execute(ctx, third, back)
	wantKind(t, "CRL numbers that go back two ceremonies later", err, bulkhead.KindGate)
	execute(t, third, plan)

	twice := clone(t, plan)
	twice.Steps = append(twice.Steps, twice.Steps[0])
	r = execute(t, later, twice)
	seen := map[int64]bool{}
	for _, p := range r.Prepared {
		if seen[p.CRLNumber] {
			t.Errorf("CRL number %d twice in one ceremony", p.CRLNumber)
		}
		seen[p.CRLNumber] = true
	}

	strange := later
	strange.PreviousTranscript = execute(t, config(newRing(t)), firstPlan(t, keys.P256)).Transcript
	_, err = Execute(ctx, strange, plan)
	wantKind(t, "transcript of another root", err, bulkhead.KindUnauthorized)

	absent := clone(t, plan)
	absent.Existing[0].KeyURI = ""
	_, err = Execute(ctx, later, absent)
	wantKind(t, "root key not brought", err, bulkhead.KindConflict)

	wrong := clone(t, plan)
	if wrong.Existing[0].KeyURI, _, err = ring.Generate(ctx, "other", keys.P256); err != nil {
		t.Fatal(err)
	}
	_, err = Execute(ctx, later, wrong)
	wantKind(t, "key of another root", err, bulkhead.KindConflict)

	fresh := config(newRing(t))
	fresh.PreviousTranscript = first.Transcript
	_, err = Execute(ctx, fresh, firstPlan(t, keys.P256))
	wantKind(t, "previous transcript of a new root", err, bulkhead.KindConflict)
}

// TestCross makes two roots and cross-signs one root and one issuing authority under the other: both paths verify, and
// the twin differs in issuer and serial only where it must.
func TestCross(t *testing.T) {
	p := firstPlan(t, keys.P256)
	p.Steps = append(p.Steps,
		Step{Root: &RootStep{ID: "other", Subject: name("Other Root"), Algorithm: keys.P384, Days: 5478}},
		Step{Cross: &CrossStep{Subject: "root", Parent: "other", Days: 1000, PathLen: 1}},
		Step{Cross: &CrossStep{Subject: "issuing-p256", Parent: "other", Days: 1000}},
	)
	r := execute(t, config(newRing(t)), p)
	root, issuing, other := parse(t, r.Authorities[0].Certificate), parse(t, r.Authorities[1].Certificate), parse(t, r.Authorities[4].Certificate)
	crossRoot, crossIssuing := parse(t, r.Certificates[7].DER), parse(t, r.Certificates[8].DER)
	for _, pair := range [][2]*x509.Certificate{{root, crossRoot}, {issuing, crossIssuing}} {
		if !bytes.Equal(pair[0].RawSubject, pair[1].RawSubject) || !bytes.Equal(pair[0].RawSubjectPublicKeyInfo, pair[1].RawSubjectPublicKeyInfo) || !bytes.Equal(pair[1].RawIssuer, other.RawSubject) {
			t.Errorf("%s is no cross-certificate", pair[1].Subject)
		}
	}
	if row := r.Certificates[7].Certificate; row.Issuer != "other" || row.Kind != bulkhead.CACertificate || len(r.Certificates[7].Chain) != 1 {
		t.Errorf("row %+v", row)
	}
	pool := func(certs ...*x509.Certificate) *x509.CertPool {
		p := x509.NewCertPool()
		for _, c := range certs {
			p.AddCert(c)
		}
		return p
	}
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	chains, err := issuing.Verify(x509.VerifyOptions{Roots: pool(root, other), Intermediates: pool(crossRoot), CurrentTime: testNow, KeyUsages: usage})
	if err != nil || len(chains) != 2 {
		t.Errorf("%d chains, %v", len(chains), err)
	}
	if _, err := crossIssuing.Verify(x509.VerifyOptions{Roots: pool(other), CurrentTime: testNow, KeyUsages: usage}); err != nil {
		t.Error(err)
	}
	same := clone(t, p)
	same.Steps[len(same.Steps)-2].Cross.PathLen, same.Steps[len(same.Steps)-2].Cross.Subject = 0, "issuing-rsa"
	execute(t, config(newRing(t)), same)
	below := clone(t, p)
	below.Steps = append(below.Steps, Step{Cross: &CrossStep{Subject: "other", Parent: "issuing-p256", Days: 100}})
	_, err = Execute(context.Background(), config(newRing(t)), below)
	wantKind(t, "cross under an authority whose key is elsewhere", err, bulkhead.KindConflict)
}

// TestRowsFitTheRecord: every row names its issuer, serial, key and bytes.
func TestRowsFitTheRecord(t *testing.T) {
	r := execute(t, config(newRing(t)), firstPlan(t, keys.P256))
	seen := map[bulkhead.CertificateRef]bool{}
	for _, x := range r.Certificates {
		c, row := parse(t, x.DER), x.Certificate
		if seen[row.CertificateRef] || row.Serial.Big().Cmp(c.SerialNumber) != 0 || row.Issuer != "root" || row.State != bulkhead.Issued ||
			row.Fingerprint != bulkhead.Digest(x.DER) || row.KeyHash != bulkhead.Digest(c.RawSubjectPublicKeyInfo) ||
			!row.NotAfter.Equal(c.NotAfter) || !bytes.Equal(x.Chain[0], r.Authorities[0].Certificate) {
			t.Errorf("row %+v", row)
		}
		seen[row.CertificateRef] = true
	}
	for _, a := range r.Authorities {
		if err := a.ID.Check(); err != nil || a.State != bulkhead.AuthorityActive || a.CreatedAt.IsZero() || a.Shards < 1 {
			t.Errorf("authority %+v", a)
		}
		if root := a.Kind == bulkhead.RootAuthority; (a.KeyURI == "") != root || (a.Parent == "") != root || (len(a.Chain) == 0) != root || a.CanIssue() == root {
			t.Errorf("authority %s: key %q, parent %q, %d above", a.ID, a.KeyURI, a.Parent, len(a.Chain))
		}
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	p := firstPlan(t, keys.P256)
	cancel()
	ring := newRing(t)
	if _, err := Execute(ctx, config(ring), p); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if uris, err := ring.List(context.Background()); err != nil || len(uris) != 0 {
		t.Errorf("keys %v, %v", uris, err)
	}
}
