package run

import (
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"

	"bulkhead"
	"bulkhead/edge"
	liveocsp "bulkhead/live"
	"bulkhead/signer"
	"bulkhead/signer/signerrpc"
)

// liveDir holds the signatures' digests of each window of live answers, 32 octets each, by window id: with it a single
// answer can be proved against the outcome in evidence.
const liveDir = "live"

// liveSwitch is the role's type.
type liveSwitch = liveocsp.Switch

// openLive makes the live-signing switch when the configuration turns it on.
func (h *House) openLive(context.Context, seed) error {
	if !h.cfg.Status.Live || !h.roles.has(signerrpc.Signer) {
		return nil
	}
	dir := filepath.Join(h.dir, liveDir)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return bulkhead.Faultf(bulkhead.KindUnavailable, "%s cannot be made", dir).WithHint("check space and permissions").WithCause(err)
	}
	var err error
	h.live, err = liveocsp.New(liveocsp.Config{Door: signer.NewLive(h.signer), Now: h.now, Rand: rand.Reader, Log: h.log.With(slog.String("role", "live")),
		Keep: func(window string, signatures []bulkhead.Hash) error {
			if len(signatures) == 0 {
				return nil
			}
			list := make([]byte, 0, len(signatures)*len(bulkhead.Hash{}))
			for _, s := range signatures {
				list = append(list, s[:]...)
			}
			return writeFile(filepath.Join(dir, window), list, 0o640)
		}})
	return err
}

// edgeConfig adds to an edge's configuration what the house's says.
func (h *House) edgeConfig(c edge.Config) edge.Config {
	c.StatusURL = h.cfg.StatusURL
	if h.live != nil {
		c.Live, c.MaxCertIDs = h.live, h.cfg.Status.MaxCertIDs
	}
	return c
}

// startLive gets the first delegates; a delegate that is none keeps the house from starting.
func (h *House) startLive(ctx context.Context) error {
	if h.live == nil {
		return nil
	}
	return h.live.Start(ctx)
}

// runLive is the role.
func (h *House) runLive(ctx context.Context) error {
	if h.live == nil {
		<-ctx.Done()
		return nil
	}
	return h.live.Run(ctx)
}

// checkLive holds the switch's own keys.
func (s Status) checkLive() error {
	if s.MaxCertIDs < 1 || s.MaxCertIDs > 256 {
		return wrong("status.max_cert_ids", "%d is not between 1 and 256", s.MaxCertIDs)
	}
	return nil
}
