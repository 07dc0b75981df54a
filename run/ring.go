package run

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/signer/signerrpc"
)

func (c Config) checkKeyRing() error {
	if c.KeyRing == "" {
		return nil
	}
	if _, _, err := keys.TokenFiles(c.KeyRing); err != nil {
		return wrong("key_ring", "%s", bulkhead.AsFault(err).Detail) // never the value: a careless one holds a PIN
	}
	return nil
}

// openRing opens the keys of a data directory: sealed files, and the token that the configuration names. A token that is
// away is opened at its first use.
func openRing(dir string, cfg Config) (keys.Ring, error) {
	c := keys.Config{Dir: filepath.Join(dir, keysDir), IdentityFile: filepath.Join(dir, identityFile)}
	if cfg.KeyPassphraseFile != "" {
		p, err := ReadSecret(cfg.KeyPassphraseFile)
		if err != nil {
			return nil, err
		}
		c.IdentityFile, c.Passphrase = "", p
	}
	files, err := keys.OpenFileRing(c)
	if err != nil || cfg.KeyRing == "" {
		return files, err
	}
	token, err := keys.OpenToken(cfg.KeyRing)
	if err != nil {
		return nil, err
	}
	return keys.Beside(token, files, strings.TrimPrefix(cfg.House, "bulkhead-")+"-"), nil
}

// openKeys opens the ring in the process of the signer. Without its token it starts all the same: what is published is
// served meanwhile (promise P8), and the first signature after the token is back needs no restart.
func (h *House) openKeys(ctx context.Context, _ seed) error {
	if !h.roles.has(signerrpc.Signer) {
		return nil
	}
	var err error
	if h.ring, err = openRing(h.dir, h.cfg); err != nil || h.cfg.KeyRing == "" {
		return err
	}
	if _, err := h.ring.List(ctx); err != nil {
		h.log.ErrorContext(ctx, "the token with the issuing keys does not answer; nothing is signed until it does", slog.String("role", "signer"), slog.String("error", err.Error()))
	}
	return nil
}

// diagnoseToken says whether the token answers, where the keys are used in this process.
func (h *House) diagnoseToken(ctx context.Context, add addFinding) {
	if h.ring == nil || h.cfg.KeyRing == "" {
		return
	}
	if _, err := h.ring.List(ctx); err != nil {
		add("token", levelFailure, bulkhead.AsFault(err).Hint, "nothing new is signed: %s", bulkhead.AsFault(err).Detail)
		return
	}
	add("token", levelOK, "", "the token with the issuing keys answers")
}
