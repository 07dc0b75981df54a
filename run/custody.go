package run

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/keys"
	"bulkhead/keys/custody"
	"bulkhead/pki/transcript"
)

// Keys implements console.Offline: every key of the house's ring with what it is for, and the keys of authorities that are
// not here with who was in the room when they were used last.
func (x offline) Keys(ctx context.Context) ([]console.KeyView, error) {
	h := x.h
	all, err := x.authorities(ctx)
	if err != nil {
		return nil, err
	}
	uses, err := h.keyUses(ctx, all)
	if err != nil {
		return nil, err
	}
	out := []console.KeyView{}
	ring := h.ring
	if ring == nil {
		ring = keys.NewMemoryRing() // the signer is elsewhere: what the record names is listed, unopened
	}
	uris, err := ring.List(ctx)
	if err != nil {
		return nil, err
	}
	for uri := range uses {
		if h.ring == nil && uri != "" {
			uris = append(uris, uri)
		}
	}
	for _, uri := range uris {
		v := console.KeyView{Use: "nothing: no authority, delegate or head names it", Role: "unused", URI: uri, Online: true}
		if u, ok := uses[uri]; ok {
			v.Use, v.Role, v.Since = u.use, u.role, u.since
		}
		v.Where = whereOf(uri)
		v.Custodian = "this host, role signer"
		if h.ring == nil {
			v.Where, v.Custodian = "the signer's machine", "role signer"
		} else if k, err := h.ring.Open(ctx, uri); err != nil {
			v.Where += ", which does not open: " + bulkhead.AsFault(err).Detail
		} else if spki, err := x509.MarshalPKIXPublicKey(k.Public()); err == nil {
			v.Algorithm, v.KeySHA256 = algorithmName(k.Public()), bulkhead.Digest(spki)
		}
		out = append(out, v)
	}
	for _, a := range all {
		if a.KeyURI == "" {
			v, err := h.offlineKey(ctx, a)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
	}
	if h.evidence != nil {
		out = append(out, console.KeyView{Use: "evidence log " + h.evidence.Verifier().Name() + ": signs checkpoints", Role: "evidence", URI: "file:" + evidenceKey,
			Where: "a file of the data directory", Online: true, Algorithm: "ed25519", Custodian: "this host, role evidence"})
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Role+out[i].Use < out[j].Role+out[j].Use })
	return out, nil
}

type keyUse struct {
	use, role string
	since     *time.Time
}

// keyUses says what each URI of the ring is for.
func (h *House) keyUses(ctx context.Context, all map[bulkhead.AuthorityID]bulkhead.Authority) (map[string]keyUse, error) {
	out := map[string]keyUse{}
	for _, a := range all {
		since := a.CreatedAt.UTC()
		if a.KeyURI != "" {
			out[a.KeyURI] = keyUse{fmt.Sprintf("authority %s (%s)", a.ID, a.State), string(a.Kind), &since}
		}
		delegates, err := h.store.Delegates(ctx, a.ID)
		if err != nil {
			return nil, err
		}
		for _, d := range delegates {
			from := d.NotBefore.UTC()
			out[d.KeyURI] = keyUse{fmt.Sprintf("OCSP delegate of %s, until %s", a.ID, d.NotAfter.UTC().Format(time.DateOnly)), "ocsp-delegate", &from}
		}
	}
	if h.ring == nil {
		return out, nil
	}
	s, err := loadSeed(h.dir)
	if err != nil {
		return nil, err
	}
	out[s.HeadKeyURI] = keyUse{use: "status head: signs what the edges trust", role: "head"}
	return out, nil
}

func whereOf(uri string) string {
	if strings.HasPrefix(uri, "pkcs11:") {
		return "a PKCS#11 token"
	}
	return "a sealed file of the data directory"
}

// offlineKey is the key of an authority that no online role has: who held it last stands in the transcripts.
func (h *House) offlineKey(ctx context.Context, a bulkhead.Authority) (console.KeyView, error) {
	v := console.KeyView{Use: fmt.Sprintf("authority %s (%s)", a.ID, a.State), Role: string(a.Kind), Where: "offline, away from every role", Custodian: "not recorded"}
	since := a.CreatedAt.UTC()
	v.Since = &since
	if a.State == bulkhead.AuthorityDestroyed {
		v.Where, v.Custodian = "nowhere: it was destroyed", "nobody"
	}
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return v, nil // a pending authority has no certificate, and then its key is here
	}
	v.Algorithm, v.KeySHA256 = algorithmName(cert.PublicKey), bulkhead.Digest(a.SPKI)
	rows, err := h.store.Ceremonies(ctx)
	if err != nil {
		return v, err
	}
	for i := len(rows) - 1; i >= 0; i-- { // the oldest first: what is found last is newest
		if rows[i].Rehearsal {
			continue
		}
		t, err := transcript.Verify(rows[i].Signed, cert)
		if err != nil {
			continue
		}
		for _, e := range t.Entries {
			if e.Kind == "root" && e.Authority == a.ID && len(e.Inputs) > 0 {
				v.URI = e.Inputs[0].Detail
			}
		}
		if a.State != bulkhead.AuthorityDestroyed {
			v.Custodian = strings.Join(t.Who, ", ") + ", on " + t.StartedAt.UTC().Format(time.DateOnly)
		}
	}
	return v, h.inShares(&v)
}

// inShares says who holds shares of an offline key, from the public records of its split that were carried into the house:
// ceremony/custody*.json.
func (h *House) inShares(v *console.KeyView) error {
	files, err := filepath.Glob(filepath.Join(h.dir, ceremonyDir, "custody*.json"))
	if err != nil || v.URI == "" {
		return err
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("custody record: %w", err)
		}
		r, err := custody.ParseRecord(text)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindMalformed, "%s: %s", filepath.Base(f), bulkhead.AsFault(err).Detail).WithHint("put back custody.json as bulkhead-root custody split wrote it")
		}
		if !slices.Contains(r.Keys, v.URI) {
			continue
		}
		v.Needed, v.Holders = r.Needed, []string{}
		for _, c := range r.Custodians {
			v.Holders = append(v.Holders, c.Name)
		}
		v.Where = "offline, sealed; in shares"
		v.Custodian = fmt.Sprintf("any %d of %s; last used by %s", r.Needed, strings.Join(v.Holders, ", "), v.Custodian)
	}
	return nil
}

// algorithmName is the kind of a public key with its size.
func algorithmName(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return fmt.Sprintf("p%d", k.Params().BitSize)
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa%d", k.N.BitLen())
	case ed25519.PublicKey:
		return "ed25519"
	}
	return "unknown"
}
