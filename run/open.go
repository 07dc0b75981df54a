package run

import (
	"context"
	"log/slog"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/edge"
	"bulkhead/enroll"
	"bulkhead/evidence"
	"bulkhead/publish"
	"bulkhead/quorum"
	"bulkhead/retention"
	"bulkhead/signer"
	"bulkhead/signer/signerrpc"
	"bulkhead/status"
	"bulkhead/watch"
)

// Options say how a house is opened. Dir and Config are required; the rest serves rehearsals, where a day has to pass
// in a minute.
type Options struct {
	Dir     string
	Config  Config
	Log     *slog.Logger // nil discards
	Version string
	// Now is the clock of every role; nil means time.Now. It moves forward only. What the file system stamps and how
	// long a connection may take stay in real time.
	Now func() time.Time
	// Roles of this process; none means all.
	Roles []signerrpc.Role
	// Rehearsal lets the house be driven as a historic day wants it (see Rehearsal). Never set where certificates count.
	Rehearsal bool
	// Planted is a fault in what the house says it would say, for rehearsals; nil plants none.
	Planted func(change string, a *bulkhead.ShadowAnswer)
	// Look is how the incident desk of a rehearsal looks at the nodes of an item; nil leaves it as it is.
	Look func(ctx context.Context, item bulkhead.CampaignItem) []bulkhead.Look
	// DelegateValidity of OCSP delegates; 0 means the signer's default.
	DelegateValidity time.Duration
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
}

// Roles are the compartments of an open house, for a program that drives them itself instead of calling Run.
type Roles struct {
	Store     Store
	Signer    *signer.Signer
	Status    *status.Service
	Enroll    *enroll.Service
	Evidence  *evidence.Log
	Watch     *watch.Watch
	Edge      *edge.Edge
	Objects   publish.Store
	Hierarchy console.Hierarchy
	Retention *retention.Service
	Quorum    *quorum.Quorum
}

// Roles returns the compartments. They end with Close.
func (h *House) Roles() Roles {
	return Roles{Store: h.store, Signer: h.signer, Status: h.status, Enroll: h.enroll, Evidence: h.evidence, Watch: h.watch, Edge: h.edge,
		Objects: h.objects, Hierarchy: hierarchy{h: h}, Retention: h.retention, Quorum: h.quorum}
}
