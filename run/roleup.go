package run

import (
	"context"
	"io"
	"slices"

	"bulkhead"
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
	for _, r := range o.Roles {
		if slices.Contains(unbuilt, r) {
			return bulkhead.Faultf(bulkhead.KindUsage, "the role %s does not run alone: it is part of console", r).WithHint("bulkhead run console")
		}
	}
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return err
	}
	return serve(ctx, Options{Dir: o.Dir, Config: cfg, Log: NewLogger(o.LogTo, cfg.Log), Version: o.Version, Roles: o.Roles}, func(r Ready) {
		if o.Announce != nil {
			o.Announce(r)
		}
	})
}
