package kill

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	mrand "math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

// held is a certificate that the driver received, and what it was told about its revocation.
type held struct {
	ref    bulkhead.CertificateRef
	leaf   *x509.Certificate
	issuer *x509.Certificate
	asked  bool // a revocation was asked for
	acked  bool // and acknowledged
}

// driver obtains and revokes without a pause, whatever happens to the server.
type driver struct {
	t      testing.TB
	server atomic.Pointer[client.Client] // nil while there is none
	stop   chan struct{}
	wait   sync.WaitGroup

	mu     sync.Mutex
	all    []*held
	errors int // calls that ended with an error: the server was gone
	odd    []string
}

func newDriver(t testing.TB, workers int, seed uint64) *driver {
	d := &driver{t: t, stop: make(chan struct{})}
	for w := range workers {
		d.wait.Add(1)
		go func() {
			defer d.wait.Done()
			d.work(w, mrand.New(mrand.NewPCG(seed, uint64(w))))
		}()
	}
	return d
}

// count is how many certificates were received.
func (d *driver) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

// end stops the driver and reports what ought not to have been said.
func (d *driver) end() {
	d.t.Helper()
	close(d.stop)
	d.wait.Wait()
	for _, text := range d.odd {
		d.t.Error(text)
	}
}

func (d *driver) work(worker int, r *mrand.Rand) {
	var mine []*held
	for n := 0; ; n++ {
		select {
		case <-d.stop:
			return
		default:
		}
		c := d.server.Load()
		if c == nil {
			time.Sleep(2 * time.Millisecond)
			continue
		}
		if len(mine) > 0 && r.IntN(3) == 0 {
			d.revoke(c, mine[r.IntN(len(mine))])
		} else if x := d.issue(c, fmt.Sprintf("w%d-%d.test", worker, n), r.IntN(8) == 0); x != nil {
			mine = append(mine, x)
		}
	}
}

// failed counts an error of a call. Only the absence of the server excuses one.
func (d *driver) failed(what string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.errors++
	if bulkhead.KindOf(err) != bulkhead.KindUnavailable && len(d.odd) < 10 {
		d.odd = append(d.odd, what+": "+err.Error())
	}
}

func (d *driver) issue(c *client.Client, name string, viaRSA bool) *held {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		d.failed("key", err)
		return nil
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{name}}, key)
	if err != nil {
		d.failed("request", err)
		return nil
	}
	in := console.IssueRequest{CSR: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}
	if viaRSA {
		in.Authority = "issuing-rsa2048"
	}
	var out console.IssueResponse
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Do(ctx, http.MethodPost, "/api/v1/certificates", in, &out); err != nil {
		d.failed("issue", err)
		return nil
	}
	x, err := receive(out)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.odd = append(d.odd, "received: "+err.Error())
		return nil
	}
	d.all = append(d.all, x)
	return x
}

// receive reads what a client would keep.
func receive(out console.IssueResponse) (*held, error) {
	var certs []*x509.Certificate
	for _, text := range []string{out.PEM, out.ChainPEM} {
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return nil, fmt.Errorf("no PEM in %q", text)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	serial, err := bulkhead.SerialFromBig(certs[0].SerialNumber)
	if err != nil {
		return nil, err
	}
	if err := certs[0].CheckSignatureFrom(certs[1]); err != nil {
		return nil, err
	}
	issuer := bulkhead.AuthorityID("issuing-p256")
	if strings.Contains(certs[1].Subject.CommonName, "RSA") {
		issuer = "issuing-rsa2048"
	}
	return &held{ref: bulkhead.CertificateRef{Issuer: issuer, Serial: serial}, leaf: certs[0], issuer: certs[1]}, nil
}

func (d *driver) revoke(c *client.Client, x *held) {
	d.mu.Lock()
	done := x.acked
	x.asked = true
	d.mu.Unlock()
	if done {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err := c.Do(ctx, http.MethodPost, "/api/v1/certificates/"+x.ref.Serial.String()+"/revoke",
		console.RevokeRequest{Issuer: string(x.ref.Issuer), Reason: "superseded", Why: "driver"}, nil)
	if err != nil && bulkhead.KindOf(err) != bulkhead.KindAlreadyRevoked {
		d.failed("revoke", err)
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	x.acked = true // "revoked already" after an interrupted call is an acknowledgement too
}
