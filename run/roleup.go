package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"bulkhead"
	"bulkhead/headroom"
	"bulkhead/signer/signerrpc"
)

// RoleOptions is what `bulkhead run ROLE…` was called with.
type RoleOptions struct {
	Dir      string // the role's own data directory, from ExportRole
	Roles    []signerrpc.Role
	LogTo    io.Writer
	Version  string
	Announce func(Ready) // called once the roles answer; may be nil
}

// unbuilt are roles of the field's vocabulary that no process of this release runs alone.
var unbuilt = []signerrpc.Role{signerrpc.Incident, signerrpc.Scan}

// RunRoles runs some roles in this process until ctx ends.
func RunRoles(ctx context.Context, o RoleOptions) error {
	headroom.Keep(headroom.Room)
	for _, r := range o.Roles {
		if slices.Contains(unbuilt, r) {
			return bulkhead.Faultf(bulkhead.KindUsage, "the role %s does not run alone: it is part of console", r).WithHint("bulkhead run console")
		}
	}
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return err
	}
	release, err := lockDir(o.Dir)
	if err != nil {
		return err
	}
	defer release()
	readyFile := filepath.Join(o.Dir, "run", "ready.json")
	if err := os.Remove(readyFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the old ready.json: %w", err)
	}
	log := NewLogger(o.LogTo, cfg.Log)
	h, err := OpenWith(ctx, Options{Dir: o.Dir, Config: cfg, Log: log, Version: o.Version, Roles: o.Roles})
	if err != nil {
		return err
	}
	err = h.Run(ctx, func(r Ready) error {
		body, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := writeFile(readyFile, append(body, '\n'), 0o644); err != nil {
			return err
		}
		if o.Announce != nil {
			o.Announce(r)
		}
		return nil
	})
	log.InfoContext(context.WithoutCancel(ctx), "stopped", slog.Bool("clean", err == nil))
	if rerr := os.Remove(readyFile); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return errors.Join(err, h.Close())
}
