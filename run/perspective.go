package run

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"bulkhead"
	"bulkhead/enroll/dcv"
)

// PerspectiveOptions is what a perspective is started with.
type PerspectiveOptions struct {
	Dir            string // certificate, key and token; made at first start
	Listen         string // HOST:PORT
	Resolver       string // HOST:PORT; empty means the system's
	HTTPPort       int
	TLSPort        int
	PrivateTargets bool
	CAAIdentities  []string
	Log            *slog.Logger
	Ready          func(PerspectiveReady)
}

// PerspectiveReady says what to copy to the house.
type PerspectiveReady struct {
	URL             string `json:"url"`
	CertificateFile string `json:"certificate_file"`
	TokenFile       string `json:"token_file"`
	PID             int    `json:"pid"`
}

// RunPerspective serves looks until ctx ends. It has no key of the house, no database and no memory.
func RunPerspective(ctx context.Context, o PerspectiveOptions) error {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be made", o.Dir).WithCause(err)
	}
	certFile, keyFile, tokenFile := filepath.Join(o.Dir, "perspective.pem"), filepath.Join(o.Dir, "perspective.key"), filepath.Join(o.Dir, "token")
	if err := makePerspective(certFile, keyFile, tokenFile); err != nil {
		return err
	}
	token, err := ReadSecret(tokenFile)
	if err != nil {
		return err
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s and %s are no pair", certFile, keyFile).WithCause(err)
	}
	look, err := dcv.New(dcv.Config{Resolver: o.Resolver, HTTPPort: o.HTTPPort, TLSPort: o.TLSPort, AllowPrivate: o.PrivateTargets, CAAIdentities: o.CAAIdentities, Now: time.Now, Log: o.Log})
	if err != nil {
		return err
	}
	handler, err := dcv.NewPerspective(dcv.PerspectiveConfig{Validator: look, Token: string(token), Log: o.Log})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUnavailable, "cannot listen on %s", o.Listen).WithHint("is another process there? choose another --listen").WithCause(err)
	}
	srv := &http.Server{Handler: handler, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}}, ReadHeaderTimeout: headerTimeout,
		ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		_ = srv.Shutdown(end)
	})
	defer stop()
	if o.Ready != nil {
		o.Ready(PerspectiveReady{URL: "https://" + dialable(ln.Addr()), CertificateFile: certFile, TokenFile: tokenFile, PID: os.Getpid()})
	}
	if err := srv.ServeTLS(ln, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// makePerspective makes what is missing: a key with a certificate that nobody vouches for, since the house knows it
// octet by octet, and a token.
func makePerspective(certFile, keyFile, tokenFile string) error {
	if _, err := os.Stat(tokenFile); errors.Is(err, os.ErrNotExist) {
		p := make([]byte, 32)
		if _, err := rand.Read(p); err != nil {
			return fmt.Errorf("token: %w", err)
		}
		if err := writeFile(tokenFile, []byte(hex.EncodeToString(p)+"\n"), 0o600); err != nil {
			return err
		}
	}
	if _, err := os.Stat(certFile); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	now := time.Now().UTC()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "bulkhead perspective"}, DNSNames: []string{"perspective.bulkhead.internal"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return fmt.Errorf("certificate: %w", err)
	}
	p, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("key: %w", err)
	}
	if err := writeFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p}), 0o600); err != nil {
		return err
	}
	return writeFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644)
}
