package signerrpc_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"iter"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/signer/signerrpc"
)

// pki is an infrastructure authority of the test.
type pki struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newPKI(t *testing.T) *pki {
	key := newKey(t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &pki{t, cert, key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (p *pki) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.cert)
	return pool
}

func (p *pki) leaf(end time.Time, names ...string) func() *tls.Certificate {
	key := newKey(p.t)
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: names, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: end, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.cert, key.Public(), p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	return func() *tls.Certificate { return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key} }
}

var soon = time.Now().Add(time.Hour)

// door is a signer that says what it was asked.
type door struct {
	fail    error
	broken  bool                  // a CRL that fails after its first octets
	names   []bulkhead.Identifier // of the last infrastructure certificate
	request bulkhead.CertificateRequest
	hold    chan struct{} // when set, Issue waits for it
	entered chan struct{}
}

func (d *door) Issue(_ context.Context, q bulkhead.CertificateRequest) (bulkhead.IssuedCertificate, error) {
	if d.hold != nil {
		d.entered <- struct{}{}
		<-d.hold
	}
	d.request = q
	return issued, d.fail
}

func (d *door) SignAnswers(context.Context, bulkhead.AnswerRequest) (bulkhead.AnswerBatch, error) {
	return batch, d.fail
}

func (d *door) SignCRL(_ context.Context, _ bulkhead.CRLRequest, w io.Writer) (bulkhead.CRLRecord, error) {
	if d.fail != nil && !d.broken {
		return bulkhead.CRLRecord{}, d.fail
	}
	if _, err := w.Write(bytes.Repeat([]byte("crl"), 100_000)); err != nil {
		return bulkhead.CRLRecord{}, err
	}
	return record, d.fail
}

func (d *door) ShadowAnswers(_ context.Context, change string, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) iter.Seq2[bulkhead.ShadowAnswer, error] {
	return func(yield func(bulkhead.ShadowAnswer, error) bool) {
		if d.fail != nil && !d.broken {
			yield(bulkhead.ShadowAnswer{}, d.fail)
			return
		}
		n := 5000
		if serials != nil {
			n = len(serials)
		}
		for range n {
			if !yield(shadowed, nil) {
				return
			}
		}
		if d.fail != nil {
			yield(bulkhead.ShadowAnswer{}, d.fail)
		}
	}
}

func (d *door) SignHead(_ context.Context, body []byte) ([]byte, error) {
	return append([]byte("signed "), body...), d.fail
}

func (d *door) IssueInfrastructure(_ context.Context, names []bulkhead.Identifier, _ []byte) (bulkhead.IssuedCertificate, error) {
	d.names = names
	return issued, d.fail
}

var (
	at     = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	serial = func() bulkhead.Serial { s, _ := bulkhead.ParseSerial("03ab9c"); return s }()
	issued = bulkhead.IssuedCertificate{DER: []byte{1, 2, 3}, Chain: [][]byte{{4}, {5, 6}}, Certificate: bulkhead.Certificate{
		CertificateRef: bulkhead.CertificateRef{Issuer: "ca", Serial: serial}, Kind: bulkhead.LeafCertificate, State: bulkhead.Issued, KeyHash: bulkhead.Digest([]byte("k")),
		Names: []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "a.test"}}, NotBefore: at, NotAfter: at.Add(time.Hour), Shard: 3, OutcomeSeq: 9}}
	batch = bulkhead.AnswerBatch{ID: "b", Responder: []byte{7}, ThisUpdate: at, NextUpdate: at.Add(time.Hour), Missing: []bulkhead.Serial{serial}, Answers: []bulkhead.SignedAnswer{{
		Status: bulkhead.Status{CertificateRef: issued.Certificate.CertificateRef, State: bulkhead.Revoked, Reason: bulkhead.KeyCompromise, RevokedAt: at, NotAfter: at, Seq: 4}, TBS: []byte{1}, Signature: []byte{2}, TBS256: []byte{3}, Signature256: []byte{4}}}}
	shadowed = bulkhead.ShadowAnswer{Before: bulkhead.Status{CertificateRef: issued.Certificate.CertificateRef, State: bulkhead.Issued, NotAfter: at}, After: batch.Answers[0].Status}
	record   = bulkhead.CRLRecord{Authority: "ca", Shard: 2, Number: 8, ThisUpdate: at, NextUpdate: at.Add(time.Hour), Object: "crl/ca/2", Digest: bulkhead.Digest([]byte("c")), Entries: 5}
)

// start serves the door on loopback with mutual TLS.
func start(t *testing.T, p *pki, cfg signerrpc.ServerConfig) string {
	t.Helper()
	s, err := signerrpc.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(s)
	web.EnableHTTP2 = true
	web.TLS = signerrpc.TLSConfig(p.leaf(soon, signerrpc.Signer.Name()), p.pool())
	web.StartTLS()
	t.Cleanup(web.Close)
	return web.Listener.Addr().String()
}

func client(t *testing.T, p *pki, address string, own func() *tls.Certificate) *signerrpc.Client {
	t.Helper()
	c, err := signerrpc.NewClient(signerrpc.ClientConfig{Address: address, Own: own, Roots: p.pool(), Timeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// calls are one call of each method.
var calls = map[signerrpc.Method]func(context.Context, *signerrpc.Client) (any, error){
	signerrpc.Issue: func(ctx context.Context, c *signerrpc.Client) (any, error) {
		return c.Issue(ctx, bulkhead.CertificateRequest{Authority: "ca", OrderID: "o"})
	},
	signerrpc.Answers: func(ctx context.Context, c *signerrpc.Client) (any, error) {
		return c.SignAnswers(ctx, bulkhead.AnswerRequest{Authority: "ca", Serials: []bulkhead.Serial{serial}})
	},
	signerrpc.CRL: func(ctx context.Context, c *signerrpc.Client) (any, error) {
		var b bytes.Buffer
		rec, err := c.SignCRL(ctx, bulkhead.CRLRequest{Authority: "ca"}, &b)
		if err == nil && b.Len() != 300_000 {
			err = errors.New("octets are missing")
		}
		return rec, err
	},
	signerrpc.Shadow: func(ctx context.Context, c *signerrpc.Client) (any, error) { return shadowOf(ctx, c, nil) },
	signerrpc.Head:   func(ctx context.Context, c *signerrpc.Client) (any, error) { return c.SignHead(ctx, []byte("h")) },
	signerrpc.Listener: func(ctx context.Context, c *signerrpc.Client) (any, error) {
		return c.IssueInfrastructure(ctx, []bulkhead.Identifier{{Type: bulkhead.DNS, Value: "acme.example.test"}}, []byte("csr"))
	},
	signerrpc.Identity: func(ctx context.Context, c *signerrpc.Client) (any, error) {
		return c.RenewIdentity(ctx, []byte("csr"))
	},
}

// shadowOf counts the answers of a stream; each must be the one that was sent.
func shadowOf(ctx context.Context, c *signerrpc.Client, serials []bulkhead.Serial) (n int, err error) {
	for a, err := range c.ShadowAnswers(ctx, "change", "ca", serials) {
		if err != nil {
			return n, err
		}
		if a != shadowed {
			return n, errors.New("another answer arrived")
		}
		n++
	}
	return n, nil
}

// TestShadow: named serials and all are not the same; whoever stops early is not held up.
func TestShadow(t *testing.T) {
	p := newPKI(t)
	c := client(t, p, start(t, p, signerrpc.ServerConfig{Door: &door{}, AtOnce: 1}), p.leaf(soon, signerrpc.Status.Name()))
	for _, x := range []struct {
		serials []bulkhead.Serial
		want    int
	}{{nil, 5000}, {[]bulkhead.Serial{serial, serial}, 2}, {[]bulkhead.Serial{}, 0}} {
		if n, err := shadowOf(t.Context(), c, x.serials); n != x.want || err != nil {
			t.Errorf("%d serials: %d answers, %v", len(x.serials), n, err)
		}
	}
	for range c.ShadowAnswers(t.Context(), "change", "ca", nil) {
		break
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) { // the slot is free again, soon
		if _, err := c.SignHead(t.Context(), nil); err == nil {
			return
		}
	}
	t.Error("a stream that nobody reads holds its slot")
}

// TestAllowList: each role gets what its work needs, whole, and is refused the rest; the table of the test is written out
// so that a change of the list is seen here.
func TestAllowList(t *testing.T) {
	want := map[signerrpc.Role]string{
		signerrpc.Signer: "", signerrpc.Enroll: "identity issue listener shadow", signerrpc.Status: "answers crl head identity shadow", signerrpc.Edge: "identity", signerrpc.Evidence: "identity",
		signerrpc.Incident: "identity", signerrpc.Scan: "identity", signerrpc.Watch: "identity", signerrpc.Console: "identity issue listener shadow",
	}
	p := newPKI(t)
	d := &door{}
	address := start(t, p, signerrpc.ServerConfig{Door: d, ListenerNames: []string{"acme.example.test"}})
	results := map[signerrpc.Method]any{signerrpc.Issue: issued, signerrpc.Answers: batch, signerrpc.CRL: record, signerrpc.Shadow: 5000, signerrpc.Head: []byte("signed h"), signerrpc.Listener: issued, signerrpc.Identity: issued}
	for _, role := range signerrpc.Roles {
		c := client(t, p, address, p.leaf(soon, role.Name()))
		for m, call := range calls {
			got, err := call(t.Context(), c)
			if !strings.Contains(" "+want[role]+" ", " "+string(m)+" ") {
				if bulkhead.KindOf(err) != bulkhead.KindForbidden {
					t.Errorf("%s calling %s: %v, want forbidden", role, m, err)
				}
				continue
			}
			if err != nil || !reflect.DeepEqual(got, results[m]) {
				t.Errorf("%s calling %s: %v %v", role, m, got, err)
			}
			if m == signerrpc.Identity && (len(d.names) != 1 || d.names[0].Value != role.Name()) {
				t.Errorf("%s got an identity for %v", role, d.names)
			}
		}
	}
}

// TestStrangers: certificates that are none, of others, over, or of the house but not of a role.
func TestStrangers(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	address := start(t, p, signerrpc.ServerConfig{Door: &door{}})
	for name, c := range map[string]struct {
		own  func() *tls.Certificate
		kind bulkhead.Kind
	}{
		"no certificate":           {func() *tls.Certificate { return &tls.Certificate{} }, bulkhead.KindUnavailable},
		"another authority":        {other.leaf(soon, signerrpc.Enroll.Name()), bulkhead.KindUnavailable},
		"over":                     {p.leaf(time.Now().Add(-time.Minute), signerrpc.Enroll.Name()), bulkhead.KindUnavailable},
		"a listener of the house":  {p.leaf(soon, "localhost"), bulkhead.KindForbidden},
		"a role among other names": {p.leaf(soon, signerrpc.Enroll.Name(), "localhost"), bulkhead.KindForbidden},
		"two roles":                {p.leaf(soon, signerrpc.Enroll.Name(), signerrpc.Status.Name()), bulkhead.KindForbidden},
		"no such role":             {p.leaf(soon, "root.role.internal"), bulkhead.KindForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := client(t, p, address, c.own).Issue(t.Context(), bulkhead.CertificateRequest{}); bulkhead.KindOf(err) != c.kind {
				t.Errorf("%v, want %s", err, c.kind)
			}
		})
	}
	// A role that poses as the signer is not believed.
	posing := httptest.NewUnstartedServer(http.NotFoundHandler())
	posing.TLS = signerrpc.TLSConfig(p.leaf(soon, signerrpc.Enroll.Name()), p.pool())
	posing.StartTLS()
	defer posing.Close()
	if _, err := client(t, p, posing.Listener.Addr().String(), p.leaf(soon, signerrpc.Status.Name())).SignHead(t.Context(), nil); bulkhead.KindOf(err) != bulkhead.KindUnavailable {
		t.Errorf("another role as the signer: %v", err)
	}
}

// TestListenerNames: no role can have a certificate made that would make it another role, or another's listener.
func TestListenerNames(t *testing.T) {
	p := newPKI(t)
	d := &door{}
	address := start(t, p, signerrpc.ServerConfig{Door: d, ListenerNames: []string{"acme.example.test"}})
	c := client(t, p, address, p.leaf(soon, signerrpc.Enroll.Name()))
	for name, ok := range map[string]bool{"localhost": true, "127.0.0.1": true, "acme.example.test": true, "status.role.internal": false, "signer.role.internal": false, "other.example.test": false} {
		id, err := bulkhead.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.IssueInfrastructure(t.Context(), []bulkhead.Identifier{id}, []byte("csr"))
		if ok != (err == nil) || !ok && bulkhead.KindOf(err) != bulkhead.KindForbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := signerrpc.NewServer(signerrpc.ServerConfig{Door: d, ListenerNames: []string{"status.role.internal"}}); bulkhead.KindOf(err) != bulkhead.KindUsage {
		t.Errorf("the name of a role among the listeners': %v", err)
	}
}

// TestFaults: a fault arrives as it was, without its cause.
func TestFaults(t *testing.T) {
	p := newPKI(t)
	d := &door{}
	address := start(t, p, signerrpc.ServerConfig{Door: d})
	enroll, status := client(t, p, address, p.leaf(soon, signerrpc.Enroll.Name())), client(t, p, address, p.leaf(soon, signerrpc.Status.Name()))
	for _, kind := range bulkhead.Kinds {
		f := bulkhead.NewFault(kind, "detail").WithHint("hint").WithRetry(3 * time.Second).WithCause(errors.New("a secret of the inside"))
		f.Subs = []bulkhead.SubFault{{Identifier: bulkhead.Identifier{Type: bulkhead.DNS, Value: "a.test"}, Kind: kind, Detail: "sub"}}
		d.fail = f
		_, err := enroll.Issue(t.Context(), bulkhead.CertificateRequest{})
		got := bulkhead.AsFault(err)
		if got.Kind != kind || got.Detail != "detail" || got.Hint != "hint" || got.RetryAfter != 3*time.Second || !reflect.DeepEqual(got.Subs, f.Subs) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s arrived as %+v (%v)", kind, got, err)
		}
	}
	d.fail = errors.New("a secret of the inside")
	if _, err := enroll.Issue(t.Context(), bulkhead.CertificateRequest{}); bulkhead.KindOf(err) != bulkhead.KindInternal || strings.Contains(err.Error(), "secret") {
		t.Errorf("an error of the inside arrived as %v", err)
	}
	d.fail = bulkhead.NewFault(bulkhead.KindConflict, "detail")
	for _, d.broken = range []bool{false, true} {
		if _, err := status.SignCRL(t.Context(), bulkhead.CRLRequest{}, io.Discard); bulkhead.KindOf(err) != bulkhead.KindConflict {
			t.Errorf("a CRL that failed, begun %t: %v", d.broken, err)
		}
		if n, err := shadowOf(t.Context(), status, nil); bulkhead.KindOf(err) != bulkhead.KindConflict || d.broken != (n == 5000) {
			t.Errorf("a shadow that failed, begun %t: %d answers, %v", d.broken, n, err)
		}
	}
}

// TestBounds: as many calls as there are slots, and bodies up to the limit.
func TestBounds(t *testing.T) {
	p := newPKI(t)
	d := &door{hold: make(chan struct{}), entered: make(chan struct{}, 1)}
	c := client(t, p, start(t, p, signerrpc.ServerConfig{Door: d, AtOnce: 1}), p.leaf(soon, signerrpc.Enroll.Name()))
	done := make(chan error, 1)
	go func() {
		_, err := c.Issue(context.Background(), bulkhead.CertificateRequest{})
		done <- err
	}()
	<-d.entered
	if _, err := c.Issue(t.Context(), bulkhead.CertificateRequest{}); bulkhead.KindOf(err) != bulkhead.KindUnavailable || bulkhead.AsFault(err).RetryAfter == 0 {
		t.Errorf("a call beyond the slots: %v", err)
	}
	close(d.hold)
	if err := <-done; err != nil {
		t.Errorf("the call within: %v", err)
	}
	d.hold = nil
	if _, err := c.Issue(t.Context(), bulkhead.CertificateRequest{CSR: make([]byte, 4<<20)}); bulkhead.KindOf(err) != bulkhead.KindMalformed {
		t.Errorf("a body above the limit: %v", err)
	}
}
