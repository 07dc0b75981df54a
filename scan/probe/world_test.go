package probe_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"bulkhead"
)

// family is a root, an intermediate and a leaf.
type family struct {
	root, middle, leaf          *x509.Certificate
	rootKey, middleKey, leafKey crypto.Signer
	staple                      []byte
}

// relatives are made once: keys cost time.
var relatives = sync.OnceValue(func() *family {
	f := &family{rootKey: ecKey(), middleKey: ecKey()}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	f.leafKey = rsaKey
	f.root = certify(&x509.Certificate{Subject: pkix.Name{CommonName: "Root"}, IsCA: true, BasicConstraintsValid: true}, nil, f.rootKey, f.rootKey)
	f.middle = certify(&x509.Certificate{Subject: pkix.Name{CommonName: "Intermediate"}, IsCA: true, BasicConstraintsValid: true}, f.root, f.middleKey, f.rootKey)
	f.leaf = certify(&x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, DNSNames: []string{"wanted.test"}}, f.middle, f.leafKey, f.middleKey)
	f.staple, err = ocsp.CreateResponse(f.middle, f.middle, ocsp.Response{Status: ocsp.Good, SerialNumber: f.leaf.SerialNumber,
		ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}, f.middleKey)
	if err != nil {
		panic(err)
	}
	return f
})

func ecKey() crypto.Signer {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

var serials = big.NewInt(1000)

func certify(t, issuer *x509.Certificate, key, by crypto.Signer) *x509.Certificate {
	serials = new(big.Int).Add(serials, big.NewInt(1))
	t.SerialNumber = serials
	if t.NotAfter.IsZero() {
		t.NotBefore, t.NotAfter = time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour)
	}
	if issuer == nil {
		issuer = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, issuer, key.Public(), by)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

func (f *family) certificate(chain ...*x509.Certificate) tls.Certificate {
	c := tls.Certificate{PrivateKey: f.leafKey, OCSPStaple: f.staple}
	for _, x := range chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c
}

// serveGo is a server of the standard library.
func serveGo(t testing.TB, cfg *tls.Config) bulkhead.Endpoint {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	return local(l.Addr().(*net.TCPAddr).AddrPort())
}

func local(at netip.AddrPort) bulkhead.Endpoint {
	return bulkhead.Endpoint{Host: at.Addr().String(), Address: at.Addr(), Port: at.Port()}
}

// files writes what foreign servers want to read: the chain and the key.
func (f *family) files(t testing.TB) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(f.leafKey)
	if err != nil {
		t.Fatal(err)
	}
	var chain bytes.Buffer
	for _, c := range []*x509.Certificate{f.leaf, f.middle} {
		if err := pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}); err != nil {
			t.Fatal(err)
		}
	}
	middle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.middle.Raw})
	for name, body := range map[string][]byte{"chain.pem": chain.Bytes(), "middle.pem": middle, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})} {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// run starts a foreign server and waits until it listens at all addresses.
func run(t testing.TB, at []netip.AddrPort, program string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		path = filepath.Join("/usr/sbin", program)
	}
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its children end with it
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // a child of a child may hold the pipes
	in, err := cmd.StdinPipe()  // some end with their input
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: run scripts/test-tools.sh", err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM) // those with children of other users end them
		select {
		case <-ended:
		case <-time.After(3 * time.Second):
		}
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Errorf("%s does not end", program)
		}
	})
	for _, a := range at {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			c, err := net.Dial("tcp", a.String())
			if err == nil {
				_ = c.Close()
				break
			}
			select {
			case <-ended:
				t.Fatalf("%s ended: %s", program, out.String())
			default:
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not listen at %s", program, a)
			}
		}
	}
}
