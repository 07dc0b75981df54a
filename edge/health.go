package edge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"bulkhead"
)

// Health is the document at /readyz.
type Health struct {
	Ready    bool           `json:"ready"`
	Sequence uint64         `json:"sequence"`               // of the head being served; 0 when there is none
	HeadAt   *time.Time     `json:"head_at,omitempty"`      // when it was made
	HeadAge  int64          `json:"head_age_seconds"`       // since then
	Problems []string       `json:"problems"`               // what is wrong with the source or its head, and what has expired
	Near     []Expiry       `json:"near_expiry"`            // what runs out soon or has run out
	Issuers  []IssuerHealth `json:"issuers"`                // what is held
	Since    *time.Time     `json:"problem_since,omitzero"` // since when the source is in trouble
}

// IssuerHealth is what the edge holds for one issuer.
type IssuerHealth struct {
	ID           bulkhead.AuthorityID `json:"id"`
	Epoch        uint64               `json:"epoch"`
	Generation   uint64               `json:"generation"`
	Packs        int                  `json:"packs"`
	Entries      int                  `json:"entries"` // over all packs; a serial in a delta counts again
	CRLs         int                  `json:"crls"`
	AnswersUntil *time.Time           `json:"answers_until,omitempty"` // earliest nextUpdate among the answers
	CRLsUntil    *time.Time           `json:"crls_until,omitempty"`
}

// Expiry is a set of answers or a CRL that runs out.
type Expiry struct {
	Issuer  bulkhead.AuthorityID `json:"issuer"`
	What    string               `json:"what"` // "answers" or "crl"
	Shard   *int                 `json:"shard,omitempty"`
	At      time.Time            `json:"at"`
	Seconds int64                `json:"seconds"` // left; negative when it has expired
}

func livez(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h["Content-Type"] = []string{"text/plain; charset=utf-8"}
	noStore(h)
	_, _ = w.Write([]byte("ok\n")) // a client that has gone is nobody to tell
}

// readyz is 200 as long as something unexpired is served: trouble with the source does not make an edge unready.
func (e *Edge) readyz(w http.ResponseWriter, _ *http.Request) {
	health := e.Health()
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	noStore(h)
	if !health.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(health) // the client has gone: nobody to tell
}

// Health says what is served and what is near its end. Ready means: a head is held, and not everything in it has
// expired.
func (e *Edge) Health() Health {
	now := e.cfg.Now()
	h := Health{Problems: []string{}, Near: []Expiry{}, Issuers: []IssuerHealth{}}
	if p := e.problem.Load(); p != nil {
		h.Problems = append(h.Problems, p.kind+": "+p.text)
		h.Since = &p.since
	}
	ep := e.current.Load()
	if ep == nil {
		h.Problems = append(h.Problems, "no head is loaded")
		return h
	}
	at := ep.head.At
	h.Sequence, h.HeadAt, h.HeadAge = ep.head.Sequence, &at, int64(now.Sub(at)/time.Second)
	dated, alive := 0, 0
	look := func(x Expiry, last time.Time) {
		dated++
		if last.After(now) {
			alive++
		}
		left := x.At.Sub(now)
		if left > e.cfg.NearExpiry {
			return
		}
		x.Seconds = int64(left / time.Second)
		h.Near = append(h.Near, x)
		if left <= 0 {
			h.Problems = append(h.Problems, "expired: "+x.What+" of "+string(x.Issuer))
		}
	}
	for _, i := range ep.list {
		h.Issuers = append(h.Issuers, i.health())
		for n, p := range i.packs {
			if at, damaged := p.Damaged(); damaged {
				h.Problems = append(h.Problems, fmt.Sprintf("damaged: object %s at octet %d: its answers are withheld", i.head.Packs[n].Name, at))
			}
		}
		if !i.early.IsZero() {
			look(Expiry{Issuer: i.id, What: "answers", At: i.early}, i.late)
		}
		for n := range i.head.CRLs {
			c := &i.head.CRLs[n]
			look(Expiry{Issuer: i.id, What: "crl", Shard: &c.Shard, At: c.NextUpdate}, c.NextUpdate)
		}
	}
	h.Ready = dated == 0 || alive > 0
	return h
}

func (i *issuer) health() IssuerHealth {
	h := IssuerHealth{ID: i.id, Epoch: i.head.Epoch, Generation: i.head.Generation, Packs: len(i.packs), CRLs: len(i.head.CRLs)}
	for _, p := range i.packs {
		h.Entries += p.Len()
	}
	if !i.early.IsZero() {
		h.AnswersUntil = &i.early
	}
	for n := range i.head.CRLs {
		if next := i.head.CRLs[n].NextUpdate; h.CRLsUntil == nil || next.Before(*h.CRLsUntil) {
			h.CRLsUntil = &next
		}
	}
	return h
}
