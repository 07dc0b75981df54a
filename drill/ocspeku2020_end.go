package drill

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// sevenDays is the time that an authority's certificate may stay after such a finding (BR 4.9.1.2).
const sevenDays = 7 * day24

// forger is a node before the edge which, once it is turned, answers for siblings by the key of an authority that is not their issuer.
type forger struct {
	d      *day2020
	turned atomic.Bool
	forged atomic.Int64
	signer atomic.Pointer[bulkhead.Hash]
}

// ServeHTTP implements http.Handler.
func (f *forger) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rec := &recorder{head: http.Header{}, code: http.StatusOK}
	f.d.house.roles.Edge.Handler().ServeHTTP(rec, r)
	body := rec.body.Bytes()
	if x, err := ocsp.ParseResponse(body); f.turned.Load() && err == nil && x.Status == ocsp.Successful && len(x.Singles) == 1 {
		ref := bulkhead.CertificateRef{Issuer: f.d.root, Serial: x.Singles[0].Serial}
		if _, _, err := f.d.house.roles.Store.Certificate(r.Context(), ref); err == nil {
			if der, signer, err := f.d.house.reh.ForgedAnswer(r.Context(), f.d.old, ref, x.Singles[0].CertID.Hash); err == nil {
				body = der
				f.signer.Store(&signer)
				f.forged.Add(1)
			}
		}
	}
	for k, v := range rec.head {
		if k != "Content-Length" {
			w.Header()[k] = v
		}
	}
	w.WriteHeader(rec.code)
	_, _ = w.Write(body)
}

// detect has a node answer for a sibling as a dangerous intermediate could, and the probes look through it.
func (d *day2020) detect() error {
	old, err := d.house.roles.Store.Authority(d.ctx, d.old)
	if err != nil {
		return err
	}
	d.root = old.Parent
	f := &forger{d: d}
	base, err := d.listen(f)
	if err != nil {
		return fmt.Errorf("a node: %w", err)
	}
	before, err := d.house.reh.LookThrough(d.ctx, "a node", base)
	if err != nil {
		return err
	}
	f.turned.Store(true)
	after, err := d.house.reh.LookThrough(d.ctx, "a node", base)
	if err != nil {
		return err
	}
	named := false
	var lines []string
	for _, a := range after {
		lines = append(lines, fmt.Sprintf("alarm %s (%s, %s): %s", a.Detector, a.Severity, bulkhead.RunbookPage(a.Runbook), a.Message))
		named = named || a.Detector == "D6" && a.Severity == bulkhead.Critical && f.signer.Load() != nil && strings.Contains(a.Message, f.signer.Load().String())
	}
	d.say(fmt.Sprintf("An answer for a sibling that %s signed in place of the root stands at a node: the next round of the probes finds it and names the key", d.old), lines...)
	d.check("S1-4", len(before) == 0 && f.forged.Load() > 0 && named, "an answer that we did not sign, at a node, is an alarm that names the signer's key; without it there is none", "%d alarms before, %d forged answers served, then: %s", len(before), f.forged.Load(), strings.Join(lines, "; "))
	return nil
}

// revoke revokes the old authority by the CRL of its root.
func (d *day2020) revoke() error {
	before, err := d.house.reh.RehearsedChildren(d.ctx, d.old, d.clock.now())
	if err != nil {
		return err
	}
	if err := d.house.reh.RevokeAuthority(d.ctx, d.old, bulkhead.Superseded, "an intermediate with OCSPSigning"); err != nil {
		return err
	}
	for range 2 {
		if err := d.house.look(); err != nil {
			return err
		}
	}
	a, err := d.house.roles.Store.Authority(d.ctx, d.old)
	if err != nil {
		return err
	}
	ref, err := d.house.reh.CertificateOf(d.ctx, d.old)
	if err != nil {
		return err
	}
	is, err := d.house.status(ref)
	if err != nil {
		return err
	}
	took := d.clock.now().Sub(d.began)
	d.say("The old authority's certificate was revoked: its root signed the CRLs for exactly this change at a ceremony, and two people let it out")
	d.check("S1-9", a.State == bulkhead.AuthorityRevoked && is.State == ocsp.Revoked && took <= sevenDays && len(before) == 0, "the authority is revoked within seven days, after everything below it was replaced (BR 4.9.1.2)",
		"%s, %s at the edge, %s after it was found, %d products still below it", a.State, is.State, Elapsed(took), len(before))
	return nil
}

// destroy ends the power for good: only without the key can nobody forge.
func (d *day2020) destroy() error {
	ref, err := d.house.reh.CertificateOf(d.ctx, d.old)
	if err != nil {
		return err
	}
	_, _, could := d.house.reh.ForgedAnswer(d.ctx, d.old, ref, ocsp.SHA1)
	p, leaf, index, err := d.house.reh.DestroyKey(d.ctx, d.old, "an intermediate with OCSPSigning: revoked is not enough, it could answer for itself")
	if err != nil {
		return err
	}
	for range 2 {
		if err := d.house.look(); err != nil {
			return err
		}
	}
	_, _, can := d.house.reh.ForgedAnswer(d.ctx, d.old, ref, ocsp.SHA1)
	a, err := d.house.roles.Store.Authority(d.ctx, d.old)
	if err != nil {
		return err
	}
	still, err := d.house.status(d.sample)
	if err != nil {
		return err
	}
	d.say("Its key was destroyed, with two people's signatures as witnesses; what it owes until its last certificate ends was signed before",
		fmt.Sprintf("leaf %d: %s", index, leaf.Detail), "sealed: "+p.Sealed, "not covered: "+p.Notice)
	d.check("S1-7", could == nil && can != nil && a.Dead() && leaf.KeyHash == p.KeySHA256 && strings.Contains(leaf.Detail, "operator-1, operator-2") && still.State == ocsp.Revoked,
		"with the key goes the power to forge: it is destroyed before witnesses, the log says so, and the status of what it issued goes on",
		"forging before: %v, after: %v; the authority is %s; leaf %d; a certificate of it is %s at the edge", could, can, a.State, index, still.State)
	return nil
}
