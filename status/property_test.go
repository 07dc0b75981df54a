package status_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"bulkhead"
	"bulkhead/ceremony"
	"bulkhead/status"
)

// hierarchies is how many hierarchies the property test draws unless -rapid.checks says another number.
const hierarchies = "6"

// TestRevocationChangesExactlyOne is promise P1: in random hierarchies, with cross-certificates and with twins of every
// kind, revoking one certificate changes what the world hears of exactly that one. Twins are authorities with the same
// name and other keys, or the same key and other names; certificates with the same serial, the same names or the same
// key under one issuer or several.
func TestRevocationChangesExactlyOne(t *testing.T) {
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		ok(t, f.Value.Set(hierarchies))
		defer func() { ok(t, f.Value.Set(f.DefValue)) }()
	}
	rapid.Check(t, func(r *rapid.T) {
		h := bareHouse(t)
		h.addRoot()
		issuers := h.drawAuthorities(r)
		refs := h.drawCertificates(r, issuers)
		ok(t, h.status.Start(t.Context()))
		w := h.world()
		w.refresh()
		look := func() map[bulkhead.CertificateRef]said {
			all := map[bulkhead.CertificateRef]said{}
			for _, ref := range refs {
				all[ref] = w.ask(ref)
			}
			return all
		}
		before := look()
		order := rapid.Permutation(refs).Draw(r, "order")
		revocable := 0
		for _, c := range order {
			if c.Issuer == rootCA {
				continue // the root is offline: its CRL needs a ceremony
			}
			if revocable++; revocable > 3 {
				break
			}
			reasons := []bulkhead.Reason{bulkhead.KeyCompromise, bulkhead.Superseded, bulkhead.PrivilegeWithdrawn}
			if h.kind(c) != bulkhead.CACertificate {
				reasons = append(reasons, bulkhead.Unspecified)
			}
			reason := rapid.SampledFrom(reasons).Draw(r, "reason")
			if err := h.foreseen(c, reason); err != nil {
				r.Fatalf("revoking %s: %v", c, err)
			}
			w.refresh()
			after := look()
			for _, ref := range refs {
				if changed := before[ref] != after[ref]; changed != (ref == c) {
					r.Errorf("revoked %s; %s changed: %v, from %v to %v", c, ref, changed, before[ref], after[ref])
				}
			}
			if got := after[c]; got.ocsp[0] != got.ocsp[1] || got.ocsp[0] != "revoked "+got.listed {
				r.Errorf("%s: SHA-1 %q, SHA-256 %q, CRL %q", c, got.ocsp[0], got.ocsp[1], got.listed)
			}
			before = after
		}
		h.agree()
	})
}

// foreseen revokes a certificate by two people, after a preview that says what the property says: this answer, no other.
func (h *house) foreseen(ref bulkhead.CertificateRef, reason bulkhead.Reason) error {
	ctx := h.t.Context()
	c, err := h.status.PlanRevocation(ctx, "test", "property", items(reason, ref))
	if err != nil {
		return err
	}
	var p status.Preview
	ok(h.t, json.Unmarshal(c.Preview, &p))
	if p.AnswersChanged != 1 || p.Shadow.Outside != 0 || p.Shadow.Recomputed < 1 || len(p.Blocked) != 0 || len(p.Direct) != 1 || p.Direct[0].Serial != ref.Serial {
		return fmt.Errorf("preview %s", c.Preview)
	}
	if err := h.status.Approve(ctx, c.ID, c.PreviewHash, "two people"); err != nil {
		return err
	}
	return h.status.Activate(ctx, c.ID)
}

func (h *house) kind(ref bulkhead.CertificateRef) bulkhead.CertificateKind {
	h.t.Helper()
	c, _, err := h.store.Certificate(h.t.Context(), ref)
	ok(h.t, err)
	return c.Kind
}

// crossDER is a certificate of an authority's name and key by another.
func (h *house) crossDER(issuer, subject bulkhead.Authority, serial bulkhead.Serial) []byte {
	h.t.Helper()
	up, err := x509.ParseCertificate(issuer.Certificate)
	ok(h.t, err)
	of, err := x509.ParseCertificate(subject.Certificate)
	ok(h.t, err)
	key, err := h.ring.Open(h.t.Context(), issuer.KeyURI)
	ok(h.t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial.Big(), RawSubject: of.RawSubject, SubjectKeyId: of.SubjectKeyId,
		NotBefore: h.now().Add(-time.Hour), NotAfter: h.now().Add(47 * day), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, up, of.PublicKey, key)
	ok(h.t, err)
	return der
}

// drawAuthorities makes issuing authorities below the root, twins among them, and cross-certificates between them.
func (h *house) drawAuthorities(r *rapid.T) []bulkhead.AuthorityID {
	var ids []bulkhead.AuthorityID
	n := rapid.IntRange(2, 4).Draw(r, "authorities")
	for i := range n {
		id := bulkhead.AuthorityID(fmt.Sprintf("ca-%d", i))
		subject := name(fmt.Sprintf("CA %d", i))
		kind := "fresh"
		if i > 0 {
			kind = rapid.SampledFrom([]string{"fresh", "same name", "same key"}).Draw(r, "kind")
		}
		request := ceremony.Request{}
		switch kind {
		case "same key":
			request = h.requestFor(h.authority(ids[i-1]).KeyURI, subject)
		case "same name":
			subject = name("CA 0")
			request = h.csr(string(id), subject)
		default:
			request = h.csr(string(id), subject)
		}
		h.addIssuing(rootCA, id, request, subject, rapid.IntRange(1, 3).Draw(r, "shards"))
		ids = append(ids, id)
	}
	return ids
}

// drawCertificates plants leaves and cross-certificates: each with its own row, whatever else they share.
func (h *house) drawCertificates(r *rapid.T, issuers []bulkhead.AuthorityID) []bulkhead.CertificateRef {
	var refs []bulkhead.CertificateRef
	for _, s := range h.packsSerials(rootCA) {
		refs = append(refs, bulkhead.CertificateRef{Issuer: rootCA, Serial: s}) // the authorities' own certificates
	}
	taken := map[bulkhead.CertificateRef]bool{}
	for i := range rapid.IntRange(4, 10).Draw(r, "certificates") {
		issuer := rapid.SampledFrom(issuers).Draw(r, "issuer")
		der := []byte(fmt.Sprintf("certificate %d", i))
		c := h.row(issuer, func(c *bulkhead.Certificate) {
			// Few serials, keys and names, so that certificates share them.
			serial, err := bulkhead.SerialFromBytes([]byte{1, byte(rapid.IntRange(1, 6).Draw(r, "serial"))})
			ok(h.t, err)
			c.Serial = serial
			c.KeyHash = bulkhead.Digest([]byte{byte(rapid.IntRange(1, 2).Draw(r, "key"))})
			c.Names = []bulkhead.Identifier{{Type: bulkhead.DNS, Value: fmt.Sprintf("h%d.test", rapid.IntRange(1, 2).Draw(r, "name"))}}
			if rapid.Bool().Draw(r, "cross") {
				// A cross-certificate is a row like any other: one authority's name and key under another.
				subject := h.authority(rapid.SampledFrom(issuers).Draw(r, "subject"))
				c.Kind, c.Profile, c.KeyHash = bulkhead.CACertificate, "cross", bulkhead.Digest(subject.SPKI)
				der = h.crossDER(h.authority(issuer), subject, c.Serial)
			}
		})
		if taken[c.CertificateRef] {
			continue
		}
		taken[c.CertificateRef] = true
		refs = append(refs, h.plant(c, der))
	}
	return refs
}
