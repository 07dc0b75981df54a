package console

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"time"

	"bulkhead"
)

// maxItems bounds one request; larger changes are split.
const maxItems = 20_000

// PlanChangeRequest names the certificates of a change.
type PlanChangeRequest struct {
	Items       []ChangeItem           `json:"items"`
	Authorities []bulkhead.AuthorityID `json:"authorities,omitempty"` // ours: every certificate of theirs that is in use
	Reason      string                 `json:"reason,omitempty"`      // RFC 5280 name for all items; default unspecified, which does not do for an authority
	Why         string                 `json:"why"`                   // for the record
}

// ChangeItem is one certificate; the issuer is needed where two share the serial.
type ChangeItem struct {
	Issuer bulkhead.AuthorityID `json:"issuer,omitempty"`
	Serial bulkhead.Serial      `json:"serial"`
}

// items resolves every item against the inventory.
func (a *API) items(ctx context.Context, w who, in PlanChangeRequest) ([]bulkhead.ChangeItem, error) {
	if n := len(in.Items) + len(in.Authorities); n == 0 || n > maxItems {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "a change has 1 to %d items, this one has %d", maxItems, n).WithHint("POST /api/v1/open-changes takes a change of any size in parts")
	}
	if in.Why == "" {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "a change needs a reason for the record").WithHint("--why \"why this is needed\"")
	}
	reason := bulkhead.Unspecified
	if in.Reason != "" {
		var err error
		if reason, err = bulkhead.ParseReason(in.Reason); err != nil {
			return nil, err
		}
	}
	out := make([]bulkhead.ChangeItem, len(in.Items))
	for i, it := range in.Items {
		ref := bulkhead.CertificateRef{Issuer: it.Issuer, Serial: it.Serial}
		if ref.Issuer == "" {
			c, err := a.resolve(ctx, w, it.Serial.String(), "")
			if err != nil {
				return nil, err
			}
			ref = c.CertificateRef
		}
		out[i] = bulkhead.ChangeItem{CertificateRef: ref, Reason: reason}
	}
	for _, id := range in.Authorities {
		refs, err := a.certificatesOf(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, ref := range refs {
			out = append(out, bulkhead.ChangeItem{CertificateRef: ref, Reason: reason})
		}
	}
	return out, nil
}

// certificatesOf lists the certificates in use that name an authority of ours: its name and its key, by whatever issuer.
func (a *API) certificatesOf(ctx context.Context, id bulkhead.AuthorityID) ([]bulkhead.CertificateRef, error) {
	all, err := a.cfg.Inventory.Authorities(ctx)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(x bulkhead.Authority) bool { return x.ID == id })
	if i < 0 {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "there is no authority %s", id).WithHint("bulkhead hierarchy show")
	}
	rows, err := a.cfg.Inventory.CertificatesByKey(ctx, bulkhead.Digest(all[i].SPKI), a.cfg.Now())
	if err != nil {
		return nil, err
	}
	var out []bulkhead.CertificateRef
	for _, r := range rows {
		if r.Kind != bulkhead.CACertificate || r.State != bulkhead.Issued {
			continue
		}
		_, der, err := a.cfg.Inventory.Certificate(ctx, r.CertificateRef)
		if err != nil {
			return nil, err
		}
		if c, err := x509.ParseCertificate(der); err == nil && bytes.Equal(c.RawSubject, all[i].Subject) {
			out = append(out, r.CertificateRef)
		}
	}
	if len(out) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "no authority of ours issued a certificate of %s that is in use: there is nothing to revoke", id).
			WithHint("a root is taken out of the trust stores of those who have it; a foreign issuer revokes what it issued")
	}
	return out, nil
}

func (a *API) planChange(ctx context.Context, w who, _ *http.Request, in PlanChangeRequest) (ChangeView, error) {
	items, err := a.items(ctx, w, in)
	if err != nil {
		return ChangeView{}, err
	}
	c, err := a.cfg.Changes.PlanSoon(ctx, w.actor(), in.Why, items, previewWait)
	return changeView(c), err
}

// previewWait is how long a call waits for a preview; a longer one goes on, and the change has it when it is done.
const previewWait = 45 * time.Second

func (a *API) rehearsePlanChange(ctx context.Context, w who, _ *http.Request, in PlanChangeRequest) (Plan, error) {
	items, err := a.items(ctx, w, in)
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("plan and preview the revocation of %d certificates; nothing goes public by that", len(items))), nil
}

// ActivateRequest quotes the preview that the asker saw.
type ActivateRequest struct {
	PreviewHash bulkhead.Hash `json:"preview_hash"`
}

func (a *API) activateChange(ctx context.Context, w who, r *http.Request, in ActivateRequest) (ChangeView, error) {
	id := r.PathValue("id")
	if err := a.cfg.Changes.ActivateByOne(ctx, w.actor(), id, in.PreviewHash); err != nil {
		return ChangeView{}, changeError{err, id}
	}
	c, err := a.cfg.Changes.Change(ctx, id)
	return changeView(c), err
}

func (a *API) rehearseActivate(ctx context.Context, _ who, r *http.Request, in ActivateRequest) (Plan, error) {
	c, err := a.cfg.Changes.Change(ctx, r.PathValue("id"))
	if err != nil {
		return Plan{}, err
	}
	if c.State != bulkhead.ChangePreviewed || c.PreviewHash != in.PreviewHash {
		return Plan{}, bulkhead.Faultf(bulkhead.KindGate, "change %s is %s, and its preview is %s", c.ID, c.State, c.PreviewHash).WithHint("bulkhead change show " + c.ID)
	}
	return planOf(fmt.Sprintf("sign, verify and publish the revocation of %d certificates, if one person may", c.Count)), nil
}

// WithdrawRequest says why.
type WithdrawRequest struct {
	Why string `json:"why"`
}

func (a *API) withdrawChange(ctx context.Context, w who, r *http.Request, in WithdrawRequest) (ChangeView, error) {
	if err := a.cfg.Changes.Withdraw(ctx, w.actor(), r.PathValue("id"), in.Why); err != nil {
		return ChangeView{}, err
	}
	c, err := a.cfg.Changes.Change(ctx, r.PathValue("id"))
	return changeView(c), err
}

func (a *API) rehearseWithdraw(ctx context.Context, _ who, r *http.Request, _ WithdrawRequest) (Plan, error) {
	c, err := a.cfg.Changes.Change(ctx, r.PathValue("id"))
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("end change %s, which is %s; nothing of it is public", c.ID, c.State)), nil
}
