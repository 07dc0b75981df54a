package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"bulkhead"
)

// Offline brings in what was signed away from the network, and makes the files that such work begins with.
type Offline interface {
	// ImportCeremony checks a bundle and puts what it holds into the record. newRoot is the SHA-256 of a root that the house
	// does not know yet, as its ceremony printed it. A dry run checks everything and changes nothing.
	ImportCeremony(ctx context.Context, actor string, bundle []byte, newRoot bulkhead.Hash, dry bool) (ImportView, error)
	// CeremonyFile is the plan of the ceremony that a change, or with an empty change the yearly renewal of root, needs.
	CeremonyFile(ctx context.Context, change string, root, standby bulkhead.AuthorityID) (CeremonyFileView, error)
	Ceremonies(ctx context.Context) ([]bulkhead.Ceremony, error)
	// Keys says where every private key lives.
	Keys(ctx context.Context) ([]KeyView, error)
	Standbys(ctx context.Context) ([]StandbyView, error)
	// AddStandby takes a stand-by that another house's root signed.
	AddStandby(ctx context.Context, actor string, authority bulkhead.AuthorityID, certificate []byte, chain [][]byte, dry bool) (StandbyView, error)
	// ActivateStandby switches the chain that is served. The certificate served before is offered as an alternate until
	// offerOld; a time in the past offers it no more. which is the zero hash when there is only one.
	ActivateStandby(ctx context.Context, actor string, authority bulkhead.AuthorityID, which bulkhead.Hash, offerOld time.Time, dry bool) (StandbyView, error)
}

// ImportView says what an import brought.
type ImportView struct {
	Transcript   bulkhead.Hash          `json:"transcript"`
	Title        string                 `json:"title"`
	Rehearsal    bool                   `json:"rehearsal"`
	Already      bool                   `json:"already"` // it was imported before; nothing changed
	Authorities  []bulkhead.AuthorityID `json:"authorities"`
	Certificates int                    `json:"certificates"`
	CRLs         int                    `json:"crls"`
	Delegates    int                    `json:"delegates"`
	Standbys     []bulkhead.AuthorityID `json:"standbys"`
	Destroyed    []bulkhead.AuthorityID `json:"destroyed"`
	Change       string                 `json:"change,omitempty"` // the change that it unblocks
	Seconds      int64                  `json:"seconds"`          // from when the people began
	Next         string                 `json:"next,omitempty"`
}

// CeremonyFileView is a plan to carry to the offline machine.
type CeremonyFileView struct {
	Root     bulkhead.AuthorityID `json:"root"`
	YAML     string               `json:"yaml"`
	Hash     string               `json:"hash"`
	Words    []string             `json:"words"`
	Previous string               `json:"previous"` // signed transcript of the ceremony before, to carry along
}

// KeyView is one private key of the house, or of its root.
type KeyView struct {
	Use       string        `json:"use"`  // authority issuing-p256, OCSP delegate of root, status head, evidence log
	Role      string        `json:"role"` // root, issuing, infrastructure, ocsp-delegate, head, evidence, unused
	URI       string        `json:"uri"`
	Where     string        `json:"where"` // in words
	Online    bool          `json:"online"`
	Algorithm string        `json:"algorithm"`
	Custodian string        `json:"custodian"`
	Needed    int           `json:"needed,omitempty"`  // how many of the holders open it; 0 for a key that is not in shares
	Holders   []string      `json:"holders,omitempty"` // who holds a share
	Since     *time.Time    `json:"since,omitempty"`
	KeySHA256 bulkhead.Hash `json:"key_sha256"`
}

// StandbyView is a stand-by certificate, or its lack.
type StandbyView struct {
	Authority    bulkhead.AuthorityID `json:"authority"`
	State        string               `json:"state"` // none, ready, offered (served before), ended
	Under        bulkhead.AuthorityID `json:"under,omitempty"`
	Served       bulkhead.AuthorityID `json:"served_under,omitempty"` // root of the chain that is served now
	SHA256       bulkhead.Hash        `json:"sha256"`
	NotAfter     *time.Time           `json:"not_after,omitempty"`
	OfferedUntil *time.Time           `json:"offered_until,omitempty"`
}

func (a *API) offlineRoutes() {
	route(a, "POST /api/v1/ceremonies", operation[CeremonyRequest, ImportView]{id: "importCeremony", summary: "bring in the bundle of a ceremony, or the record of a rehearsal", do: a.importCeremony, plan: a.planCeremony})
	route(a, "GET /api/v1/ceremonies", operation[none, CeremonyList]{id: "listCeremonies", summary: "ceremonies and rehearsals, the last imported first", do: a.ceremonies})
	route(a, "GET /api/v1/ceremonies/plan", operation[none, CeremonyFileView]{id: "ceremonyFile", summary: "the plan of the ceremony that a change, a stand-by or the next year needs", do: a.ceremonyFile,
		query: []parameter{{name: "change", about: "id of a change that waits for a ceremony"}, {name: "root", about: "whose key signs (default: the only one)"}, {name: "standby", about: "authority that gets a stand-by under root"}}})
	route(a, "GET /api/v1/keys", operation[none, KeyList]{id: "listKeys", summary: "where every private key lives, and who keeps it", do: a.keys})
	route(a, "GET /api/v1/standbys", operation[none, StandbyList]{id: "listStandbys", summary: "stand-by certificates by issuing authority, and authorities without", do: a.standbys})
	route(a, "POST /api/v1/authorities/{id}/standby", operation[AcceptAuthorityRequest, StandbyView]{id: "addStandby", summary: "take a stand-by certificate that another house's root signed", do: a.addStandby, plan: a.planStandby})
	route(a, "POST /api/v1/authorities/{id}/standby/activation", operation[ActivateStandbyRequest, StandbyView]{id: "activateStandby", summary: "switch the chain that is served to a stand-by", do: a.activateStandby, plan: a.planActivateStandby})
}

// CeremonyRequest carries a bundle.
type CeremonyRequest struct {
	Bundle  string        `json:"bundle"`            // as bulkhead-root wrote it
	NewRoot bulkhead.Hash `json:"new_root,omitzero"` // SHA-256 of a root that the house does not know yet
}

func (a *API) importCeremony(ctx context.Context, w who, _ *http.Request, in CeremonyRequest) (ImportView, error) {
	return a.cfg.Offline.ImportCeremony(ctx, w.actor(), []byte(in.Bundle), in.NewRoot, false)
}

func (a *API) planCeremony(ctx context.Context, w who, _ *http.Request, in CeremonyRequest) (Plan, error) {
	v, err := a.cfg.Offline.ImportCeremony(ctx, w.actor(), []byte(in.Bundle), in.NewRoot, true)
	if err != nil {
		return Plan{}, err
	}
	if v.Already {
		return planOf("nothing: the ceremony was imported before"), nil
	}
	if v.Rehearsal {
		return planOf("record the rehearsal, and nothing that it signed"), nil
	}
	p := planOf(fmt.Sprintf("record the ceremony %q with %d authorities, %d certificates, %d CRLs, %d OCSP delegates, %d stand-bys and %d destroyed keys", v.Title,
		len(v.Authorities), v.Certificates, v.CRLs, v.Delegates, len(v.Standbys), len(v.Destroyed)))
	if v.Change != "" {
		p.Would = append(p.Would, "preview change "+v.Change+" again, which the ceremony unblocks")
	}
	return p, nil
}

// CeremonyView is a ceremony as people read it.
type CeremonyView struct {
	Transcript bulkhead.Hash `json:"transcript"`
	Previous   bulkhead.Hash `json:"previous"`
	Root       bulkhead.Hash `json:"root"`
	Title      string        `json:"title"`
	Rehearsal  bool          `json:"rehearsal"`
	Change     string        `json:"change,omitempty"`
	BeganAt    time.Time     `json:"began_at"`
	FinishedAt time.Time     `json:"finished_at"`
	ImportedAt time.Time     `json:"imported_at"`
	Actor      string        `json:"actor"`
	Signed     string        `json:"signed"` // the transcript, byte for byte
}

// CeremonyList is all of them.
type CeremonyList struct {
	Ceremonies []CeremonyView `json:"ceremonies"`
}

func (a *API) ceremonies(ctx context.Context, _ who, _ *http.Request, _ none) (CeremonyList, error) {
	rows, err := a.cfg.Offline.Ceremonies(ctx)
	out := []CeremonyView{}
	for _, c := range rows {
		out = append(out, CeremonyView{c.Digest, c.Previous, c.Root, c.Title, c.Rehearsal, c.Change, c.BeganAt.UTC(), c.FinishedAt.UTC(), c.ImportedAt.UTC(), c.Actor, string(c.Signed)})
	}
	return CeremonyList{out}, err
}

func (a *API) ceremonyFile(ctx context.Context, _ who, r *http.Request, _ none) (CeremonyFileView, error) {
	q := r.URL.Query()
	return a.cfg.Offline.CeremonyFile(ctx, q.Get("change"), bulkhead.AuthorityID(q.Get("root")), bulkhead.AuthorityID(q.Get("standby")))
}

// KeyList is all of them.
type KeyList struct {
	Keys []KeyView `json:"keys"`
}

func (a *API) keys(ctx context.Context, _ who, _ *http.Request, _ none) (KeyList, error) {
	rows, err := a.cfg.Offline.Keys(ctx)
	return KeyList{rows}, err
}

// StandbyList has every issuing authority at least once.
type StandbyList struct {
	Standbys []StandbyView `json:"standbys"`
}

func (a *API) standbys(ctx context.Context, _ who, _ *http.Request, _ none) (StandbyList, error) {
	rows, err := a.cfg.Offline.Standbys(ctx)
	return StandbyList{rows}, err
}

func (a *API) addStandby(ctx context.Context, w who, r *http.Request, in AcceptAuthorityRequest) (StandbyView, error) {
	cert, chain, err := in.decode()
	if err != nil {
		return StandbyView{}, err
	}
	return a.cfg.Offline.AddStandby(ctx, w.actor(), bulkhead.AuthorityID(r.PathValue("id")), cert, chain, false)
}

func (a *API) planStandby(ctx context.Context, w who, r *http.Request, in AcceptAuthorityRequest) (Plan, error) {
	cert, chain, err := in.decode()
	if err != nil {
		return Plan{}, err
	}
	v, err := a.cfg.Offline.AddStandby(ctx, w.actor(), bulkhead.AuthorityID(r.PathValue("id")), cert, chain, true)
	return planOf(fmt.Sprintf("lay a stand-by of %s ready; it is served to nobody", v.Authority)), err
}

// ActivateStandbyRequest names a stand-by.
type ActivateStandbyRequest struct {
	SHA256   bulkhead.Hash `json:"sha256,omitzero"`    // of the stand-by; may be left out when there is only one
	OfferOld time.Time     `json:"offer_old,omitzero"` // until when the chain served before is offered as an alternate; left out: no more
}

func (a *API) activateStandby(ctx context.Context, w who, r *http.Request, in ActivateStandbyRequest) (StandbyView, error) {
	return a.cfg.Offline.ActivateStandby(ctx, w.actor(), bulkhead.AuthorityID(r.PathValue("id")), in.SHA256, in.OfferOld, false)
}

func (a *API) planActivateStandby(ctx context.Context, w who, r *http.Request, in ActivateStandbyRequest) (Plan, error) {
	v, err := a.cfg.Offline.ActivateStandby(ctx, w.actor(), bulkhead.AuthorityID(r.PathValue("id")), in.SHA256, in.OfferOld, true)
	return planOf(fmt.Sprintf("serve %s under %s: ACME, AIA, the API and what is issued from now on", v.Authority, v.Under)), err
}
