package run

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/edge"
)

// Levels of a finding.
const (
	levelOK      = "ok"
	levelFinding = "finding"
	levelFailure = "failure"
)

// Diagnose implements console.Doctor: it looks at the running house and says what to do.
func (h *House) Diagnose(ctx context.Context) []console.Finding {
	var out []console.Finding
	add := func(check, level, next, format string, args ...any) {
		out = append(out, console.Finding{Check: check, Level: level, Detail: fmt.Sprintf(format, args...), Next: next})
	}
	if err := h.store.Ping(ctx); err != nil {
		add("store", levelFailure, "bring the database back; status goes on answering meanwhile", "the store does not answer: %s", bulkhead.AsFault(err).Detail)
	} else {
		add("store", levelOK, "", "the store answers")
	}
	h.diagnoseRoot(ctx, add)
	h.diagnoseToken(ctx, add)
	if h.evidence == nil {
		add("evidence", levelOK, "", "the log is kept by another process")
	} else if lag := h.evidence.Lag(); lag > 10*time.Second {
		add("evidence", levelFailure, "look at the log of the evidence role", "the oldest committed fact is not covered by a checkpoint for %s", lag.Round(time.Second))
	} else {
		add("evidence", levelOK, "", "checkpoints cover %d leaves, %s behind", h.evidence.Checkpoint().Size, lag.Round(time.Millisecond))
	}
	h.diagnoseWitnesses(add)
	h.diagnoseStatus(ctx, add)
	h.diagnoseVerifiers(add)
	h.diagnoseAuthorities(ctx, add)
	h.diagnoseOffline(ctx, add)
	h.diagnoseIssuance(ctx, add)
	ops, err := h.quorum.Operators(ctx)
	n := 0
	for _, o := range ops {
		if o.RemovedAt.IsZero() {
			n++
		}
	}
	if err != nil || n < 2 {
		add("quorum", levelFailure, "bulkhead operator add NAME --public-key FILE", "%d operators are in office, a quorum takes 2", n)
	} else {
		add("quorum", levelOK, "", "%d operators are in office", n)
	}
	h.diagnoseAccess(ctx, add)
	h.diagnoseProfiles(ctx, add)
	if len(h.cfg.WeakKeyLists) == 0 {
		add("weak-keys", levelFinding, "set weak_key_lists in "+ConfigFile, "no list of known weak keys is loaded: keys of CVE-2008-0166 are not recognised (sizes, exponents, ROCA and close primes are)")
	} else {
		add("weak-keys", levelOK, "", "%d lists of known weak keys are loaded", len(h.cfg.WeakKeyLists))
	}
	h.diagnosePerspectives(ctx, add)
	h.diagnoseWatch(ctx, add)
	if h.cfg.PrivateTargets {
		add("validation", levelFinding, "set private_targets: false before serving names of strangers", "validation may dial loopback and private addresses (the embedded default)")
	}
	return out
}

type addFinding func(check, level, next, format string, args ...any)

// diagnoseRoot fails when an online role could use the root's key, and reminds while the root folder is still here.
func (h *House) diagnoseRoot(ctx context.Context, add addFinding) {
	if _, err := os.Stat(RootDir(h.dir)); err == nil {
		add("root-folder", levelFinding, "move it to offline media, in two copies; nothing here needs it", "%s is still on this machine", RootDir(h.dir))
	} else {
		add("root-folder", levelOK, "", "the root folder is not on this machine's data path")
	}
	all, err := h.store.Authorities(ctx)
	if err != nil {
		return
	}
	if h.ring == nil {
		add("root-key", levelOK, "", "this process holds no key")
		return
	}
	uris, err := h.ring.List(ctx)
	if err != nil {
		add("root-key", levelFailure, "check the key folder", "the key ring cannot be listed: %s", bulkhead.AsFault(err).Detail)
		return
	}
	for _, a := range all {
		if a.Kind != bulkhead.RootAuthority {
			continue
		}
		online := a.KeyURI != ""
		for _, uri := range uris {
			if k, err := h.ring.Open(ctx, uri); err == nil {
				spki, err := x509.MarshalPKIXPublicKey(k.Public())
				online = online || err == nil && string(spki) == string(a.SPKI)
			}
		}
		if online {
			add("root-key", levelFailure, "take the key out of the ring and treat it as exposed", "an online role can open the key of root %s", a.ID)
		} else {
			add("root-key", levelOK, "", "no online role can open the key of root %s", a.ID)
		}
	}
}

func (h *House) diagnoseStatus(ctx context.Context, add addFinding) {
	var hl edge.Health
	if h.edge != nil {
		hl = h.edge.Health()
	}
	head, err := h.store.Head(ctx)
	switch {
	case h.edge == nil:
		add("edge", levelOK, "", "edges are other processes: look at their /readyz")
	case !hl.Ready:
		add("edge", levelFailure, "look at /readyz on the status listener", "the edge does not answer")
	case err == nil && head.Sequence > hl.Sequence+1:
		add("edge", levelFailure, "look at the log of the edge role", "the edge serves head %d, the store has %d", hl.Sequence, head.Sequence)
	default:
		add("edge", levelOK, "", "the edge serves head %d", hl.Sequence)
	}
	crls, err := h.store.CRLs(ctx)
	if err != nil {
		return
	}
	now, worst := h.now(), 0
	for _, c := range crls {
		if c.NextUpdate.Sub(now) < c.NextUpdate.Sub(c.ThisUpdate)/2-time.Hour {
			worst++
			add("crl", levelFinding, "a root's CRL needs a ceremony; an issuing authority's is renewed by itself: look at the status role's log",
				"CRL %d of %s shard %d is past half of its life, until %s", c.Number, c.Authority, c.Shard, c.NextUpdate.UTC().Format(time.RFC3339))
		}
	}
	if worst == 0 {
		add("crl", levelOK, "", "%d CRLs are within the first half of their lives", len(crls))
	}
}

func (h *House) diagnoseAuthorities(ctx context.Context, add addFinding) {
	all, err := h.store.Authorities(ctx)
	if err != nil {
		add("authorities", levelFailure, "bring the store back", "the authorities cannot be read")
		return
	}
	now, fine := h.now(), 0
	for _, a := range all {
		cert, err := x509.ParseCertificate(a.Certificate)
		if err != nil {
			if a.State == bulkhead.AuthorityPending {
				add("authority", levelFinding, "bulkhead hierarchy show, then have the request signed", "authority %s waits for its certificate", a.ID)
			}
			continue
		}
		if cert.NotAfter.Sub(now) < cert.NotAfter.Sub(cert.NotBefore)/2 {
			add("authority", levelFinding, "bulkhead hierarchy rotate "+string(a.ID), "authority %s is past half of its life, until %s", a.ID, cert.NotAfter.UTC().Format(time.DateOnly))
			continue
		}
		fine++
		if a.KeyURI == "" {
			h.diagnosePrepared(ctx, a, add)
		}
	}
	add("authority", levelOK, "", "%d authorities are within the first half of their lives", fine)
}

// diagnosePrepared warns at half of what a ceremony signed in advance.
func (h *House) diagnosePrepared(ctx context.Context, a bulkhead.Authority, add addFinding) {
	all, err := h.store.Prepared(ctx, a.ID)
	if err != nil || len(all) == 0 {
		return
	}
	now := h.now()
	first, last := all[0].NotBefore, time.Time{}
	for _, p := range all {
		if p.NotAfter.After(last) {
			last = p.NotAfter
		}
	}
	if last.Sub(now) < last.Sub(first)/2 {
		add("ceremony", levelFinding, "hold the next ceremony for "+string(a.ID), "what the last ceremony prepared for %s ends at %s", a.ID, last.UTC().Format(time.DateOnly))
	} else {
		add("ceremony", levelOK, "", "prepared CRLs and delegates of %s last until %s", a.ID, last.UTC().Format(time.DateOnly))
	}
}

// readiness is the body of /readyz. The process is ready while status is answered: a store that is away, or issuance
// that is stopped, is said and does not make status unready (promise P8). A process without an edge is ready while it
// reaches the store.
type readiness struct {
	Status   string       `json:"status"`
	Issuance string       `json:"issuance"`
	Edge     *edge.Health `json:"edge,omitempty"` // of a process with an edge
}

func (h *House) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	out := readiness{Status: "ok", Issuance: h.issuanceState(ctx)}
	ready := h.store == nil || h.store.Ping(ctx) == nil
	if h.edge != nil {
		health := h.edge.Health()
		out.Edge, ready = &health, health.Ready
	}
	code := http.StatusOK
	if !ready {
		out.Status, code = "unready", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(out)
}
