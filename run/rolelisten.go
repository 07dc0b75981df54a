package run

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"bulkhead"
	"bulkhead/signer/signerrpc"
)

// listenForRoles opens the signer's listener for the other processes of the house; nil where all roles are in this one.
func (h *House) listenForRoles(ctx context.Context) (net.Listener, error) {
	if h.roles.all() || !h.roles.has(signerrpc.Signer) {
		return nil, nil
	}
	if h.cfg.Signer.Listen == "" {
		return nil, wrong("signer.listen", "the role signer needs an address at which the others find it")
	}
	path, unix := strings.CutPrefix(h.cfg.Signer.Listen, "unix:")
	if !unix {
		return listener{"signer.listen", h.cfg.Signer.Listen}.open()
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, wrong("signer.listen", "%s is in the way: %s", path, err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, wrong("signer.listen", "%s", err)
	}
	// Mutual TLS decides who is answered; the file mode only lets the roles' users reach it.
	return l, os.Chmod(path, 0o666)
}

// signerCertificateEvery is how often the end of the signer's own certificate is looked at.
const signerCertificateEvery = time.Minute

// serveRoles answers the other processes of the house under mutual TLS.
func (f *front) serveRoles(ctx context.Context, g *errgroup.Group) error {
	h := f.h
	var own atomic.Pointer[tls.Certificate]
	renew := func() error {
		if c := own.Load(); c != nil && h.now().Before(c.Leaf.NotBefore.Add(c.Leaf.NotAfter.Sub(c.Leaf.NotBefore)*2/3)) {
			return nil
		}
		dir := filepath.Join(h.dir, "run")
		if c, err := loadIdentity(dir, h.now); err == nil && own.Load() == nil && h.now().Before(c.certificate().Leaf.NotBefore.Add(c.certificate().Leaf.NotAfter.Sub(c.certificate().Leaf.NotBefore)*2/3)) {
			own.Store(c.certificate())
			return nil
		}
		c, err := h.roleCertificate(ctx, signerrpc.Signer, dir)
		if err == nil {
			own.Store(c)
		}
		return err
	}
	if err := renew(); err != nil {
		return err
	}
	callers, err := h.infrastructurePool(ctx)
	if err != nil {
		return err
	}
	server, err := signerrpc.NewServer(signerrpc.ServerConfig{Door: h.signer, ListenerNames: h.cfg.Signer.ListenerNames, Log: h.log.With(slog.String("role", "signer"))})
	if err != nil {
		return err
	}
	web := http.NewServeMux()
	web.Handle("/signer/v1/", server)
	f.serve(ctx, g, f.signerL, web, signerrpc.TLSConfig(own.Load, callers))
	g.Go(func() error {
		return every(ctx, signerCertificateEvery, func() {
			if err := renew(); err != nil {
				h.log.ErrorContext(ctx, "the signer's own certificate could not be renewed", slog.String("error", err.Error()))
			}
		})
	})
	return nil
}

// infrastructurePool holds the authorities that certify the house's own processes.
func (h *House) infrastructurePool(ctx context.Context) (*x509.CertPool, error) {
	all, err := h.store.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	pool, n := x509.NewCertPool(), 0
	for _, a := range all {
		if cert, err := x509.ParseCertificate(a.Certificate); err == nil && a.Kind == bulkhead.InfrastructureAuthority && a.Answers() {
			pool.AddCert(cert)
			n++
		}
	}
	if n == 0 {
		return nil, bulkhead.NewFault(bulkhead.KindNotFound, "there is no infrastructure authority: nobody could prove to be a role of this house")
	}
	return pool, nil
}
