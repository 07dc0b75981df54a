package pack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
)

// The signed head is a C2SP signed note (https://c2sp.org/signed-note). Its text is one line "bulkhead-head/v1
// ORIGIN", where ORIGIN is the name of the key that signs it, and one line of JSON in the encoding that Body gives.
const (
	headFormat = "bulkhead-head/v1 "

	// MaxHead bounds a head body in octets: some thousands of CRL shards.
	MaxHead = 1_000_000
)

// ObjectRef names an immutable object and what it must contain.
type ObjectRef struct {
	Name   string        `json:"name"`
	Digest bulkhead.Hash `json:"sha256"` // of the whole object
	Size   int64         `json:"size"`   // octets
	// Tail is the last digest of a pack, by which its pages are verified one by one: see Pack.Tail. Zero for packs of
	// version 1 and for everything else. Readers older than the field refuse a head that has it: edges are updated first.
	Tail bulkhead.Hash `json:"tail,omitzero"`
}

// IsZero reports whether the reference is absent.
func (r ObjectRef) IsZero() bool { return r == ObjectRef{} }

// CRLRef names the newest CRL of one shard.
type CRLRef struct {
	Shard      int       `json:"shard"`
	Number     int64     `json:"number"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	ObjectRef
}

// IssuerHead is what is published for one issuer.
type IssuerHead struct {
	ID          bulkhead.AuthorityID `json:"id"`
	Epoch       uint64               `json:"epoch"`                // moves with a change of status
	Generation  uint64               `json:"generation"`           // moves with refreshes and new certificates
	Certificate ObjectRef            `json:"certificate,omitzero"` // DER, for AIA
	Packs       []ObjectRef          `json:"packs"`                // newest first; the last is the base
	CRLs        []CRLRef             `json:"crls"`                 // by shard
	ThroughSeq  int64                `json:"through_seq"`          // evidence sequence through which new certificates are answered
	Change      string               `json:"change,omitempty"`     // the change that made this epoch
}

// Head is the whole published state, in one text under one signature.
type Head struct {
	Origin   string       `json:"-"` // name of the signing key; the first line of the body
	Sequence uint64       `json:"sequence"`
	At       time.Time    `json:"at"`
	Issuers  []IssuerHead `json:"issuers"` // by id
}

// Issuer returns the entry of one issuer, nil when there is none.
func (h *Head) Issuer(id bulkhead.AuthorityID) *IssuerHead {
	for i := range h.Issuers {
		if h.Issuers[i].ID == id {
			return &h.Issuers[i]
		}
	}
	return nil
}

// Body checks the head and encodes it: times in UTC and whole seconds, empty lists as [], one trailing newline.
func (h *Head) Body() ([]byte, error) {
	n := *h
	n.At = wholeSecond(h.At)
	n.Issuers = append([]IssuerHead{}, h.Issuers...)
	for i := range n.Issuers {
		x := &n.Issuers[i]
		x.Packs = append([]ObjectRef{}, x.Packs...)
		x.CRLs = append([]CRLRef{}, x.CRLs...)
		for j := range x.CRLs {
			x.CRLs[j].ThisUpdate, x.CRLs[j].NextUpdate = wholeSecond(x.CRLs[j].ThisUpdate), wholeSecond(x.CRLs[j].NextUpdate)
		}
	}
	if err := n.check(); err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	b := bytes.NewBufferString(headFormat + n.Origin + "\n")
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(&n); err != nil {
		return nil, fmt.Errorf("head: encode: %w", err)
	}
	if b.Len() > MaxHead {
		return nil, fmt.Errorf("head: %d octets, at most %d are allowed", b.Len(), MaxHead)
	}
	return b.Bytes(), nil
}

func wholeSecond(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// ParseHeadBody reads a body and refuses any other encoding of the same head.
func ParseHeadBody(body []byte) (*Head, error) {
	if len(body) > MaxHead {
		return nil, fmt.Errorf("head: %d octets, at most %d are allowed", len(body), MaxHead)
	}
	line, rest, ok := strings.Cut(string(body), "\n")
	origin, named := strings.CutPrefix(line, headFormat)
	if !ok || !named {
		return nil, fmt.Errorf("head: first line is not %q and an origin", strings.TrimSpace(headFormat))
	}
	h := &Head{}
	dec := json.NewDecoder(strings.NewReader(rest))
	dec.DisallowUnknownFields()
	if err := dec.Decode(h); err != nil {
		return nil, fmt.Errorf("head: decode: %w", err)
	}
	h.Origin = origin
	again, err := h.Body()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, body) {
		return nil, fmt.Errorf("head: not in canonical encoding")
	}
	return h, nil
}

// OpenHead verifies a signed head with the one key that is trusted and reads it.
func OpenHead(signed []byte, v note.Verifier) (*Head, error) {
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		return nil, fmt.Errorf("head: %w", err)
	}
	h, err := ParseHeadBody([]byte(n.Text))
	if err != nil {
		return nil, err
	}
	if h.Origin != v.Name() {
		return nil, fmt.Errorf("head: origin %q is not the key's name %q", h.Origin, v.Name())
	}
	return h, nil
}

// SignHead signs a body that ParseHeadBody accepts and whose origin is the signer's name.
func SignHead(body []byte, s note.Signer) ([]byte, error) {
	h, err := ParseHeadBody(body)
	if err != nil {
		return nil, err
	}
	if h.Origin != s.Name() {
		return nil, fmt.Errorf("head: origin %q is not the key's name %q", h.Origin, s.Name())
	}
	signed, err := note.Sign(&note.Note{Text: string(body)}, s)
	if err != nil {
		return nil, fmt.Errorf("head: sign: %w", err)
	}
	return signed, nil
}

func (h *Head) check() error {
	if h.Origin == "" || strings.ContainsAny(h.Origin, "+ \t\r\n") {
		return fmt.Errorf("origin %q is not a key name", h.Origin)
	}
	if h.Sequence == 0 || h.At.Unix() <= 0 {
		return fmt.Errorf("sequence and time are required")
	}
	names := map[string]ObjectRef{}
	for i := range h.Issuers {
		x := &h.Issuers[i]
		if err := x.ID.Check(); err != nil {
			return err
		}
		if i > 0 && h.Issuers[i-1].ID >= x.ID {
			return fmt.Errorf("issuers are not sorted at %s", x.ID)
		}
		if err := x.check(names); err != nil {
			return fmt.Errorf("issuer %s: %w", x.ID, err)
		}
	}
	return nil
}

func (x *IssuerHead) check(names map[string]ObjectRef) error {
	if x.ThroughSeq < 0 {
		return fmt.Errorf("negative evidence sequence")
	}
	if !x.Certificate.IsZero() {
		if err := x.Certificate.check(names); err != nil {
			return err
		}
	}
	for _, p := range x.Packs {
		if err := p.check(names); err != nil {
			return err
		}
	}
	for j, c := range x.CRLs {
		if c.Shard < 0 || c.Number <= 0 || (j > 0 && x.CRLs[j-1].Shard >= c.Shard) {
			return fmt.Errorf("CRL shards are not sorted, or one has no number, at %d", c.Shard)
		}
		if c.ThisUpdate.Unix() <= 0 || !c.NextUpdate.After(c.ThisUpdate) {
			return fmt.Errorf("CRL shard %d: nextUpdate is not after thisUpdate", c.Shard)
		}
		if err := c.check(names); err != nil {
			return err
		}
	}
	return nil
}

// check also sees that one name does not stand for two contents.
func (r ObjectRef) check(names map[string]ObjectRef) error {
	if r.Name == "" || len(r.Name) > 255 || strings.ContainsFunc(r.Name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("%q is not an object name", r.Name)
	}
	if r.Digest.IsZero() || r.Size <= 0 {
		return fmt.Errorf("object %s has no digest or size", r.Name)
	}
	if old, ok := names[r.Name]; ok && old != r {
		return fmt.Errorf("object %s is named with two digests", r.Name)
	}
	names[r.Name] = r
	return nil
}

// Follows reports whether h may replace prev: a higher sequence, every issuer and CRL shard of prev still there, no
// (epoch, generation) and no CRL number lower, and one CRL to a number. A nil prev is followed by anything. The error
// is KindConflict.
func (h *Head) Follows(prev *Head) error {
	if prev == nil {
		return nil
	}
	if h.Origin != prev.Origin {
		return conflict("head of %q does not follow one of %q", h.Origin, prev.Origin)
	}
	if h.Sequence <= prev.Sequence {
		return conflict("head %d does not follow head %d", h.Sequence, prev.Sequence)
	}
	for i := range prev.Issuers {
		old := &prev.Issuers[i]
		x := h.Issuer(old.ID)
		if x == nil {
			return conflict("head %d has lost issuer %s", h.Sequence, old.ID)
		}
		if x.Epoch < old.Epoch || (x.Epoch == old.Epoch && x.Generation < old.Generation) {
			return conflict("head %d takes issuer %s from epoch %d.%d back to %d.%d", h.Sequence, old.ID, old.Epoch, old.Generation, x.Epoch, x.Generation)
		}
		if err := x.crlsFollow(old); err != nil {
			return err
		}
	}
	return nil
}

func (x *IssuerHead) crlsFollow(old *IssuerHead) error {
	now := make(map[int]CRLRef, len(x.CRLs))
	for _, c := range x.CRLs {
		now[c.Shard] = c
	}
	for _, o := range old.CRLs {
		c, ok := now[o.Shard]
		switch {
		case !ok:
			return conflict("issuer %s has lost CRL shard %d", x.ID, o.Shard)
		case c.Number < o.Number || c.ThisUpdate.Before(o.ThisUpdate):
			return conflict("issuer %s takes CRL shard %d from number %d back to %d", x.ID, o.Shard, o.Number, c.Number)
		case c.Number == o.Number && c.Digest != o.Digest:
			return conflict("issuer %s has two CRLs of number %d for shard %d", x.ID, c.Number, c.Shard)
		}
	}
	return nil
}

func conflict(format string, args ...any) error {
	return bulkhead.Faultf(bulkhead.KindConflict, format, args...).
		WithHint("heads only move forward: publish a new head above the newest one")
}
