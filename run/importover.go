package run

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/importer"
)

// endHolds finds the holds of the input that are over: the newest complete CRL of the authority, be it of the input or public here, is
// younger than the hold and does not list it. So an older CRL that is given afterwards, or beside the newest, holds nothing again.
func (im *intake) endHolds(ctx context.Context) error {
	im.over = map[bulkhead.Serial]*importer.CRL{}
	newest, public := im.set.Newest, false
	have, err := im.store.Prepared(ctx, im.o.Authority)
	if err != nil {
		return err
	}
	for _, p := range have {
		if p.Kind != bulkhead.PreparedCRL || newest != nil && big.NewInt(p.CRLNumber).Cmp(newest.Number) <= 0 {
			continue
		}
		list, err := x509.ParseRevocationList(p.DER)
		if err != nil {
			return fmt.Errorf("CRL %d of %s in the record: %w", p.CRLNumber, im.o.Authority, err)
		}
		newest, public = &importer.CRL{RevocationList: list, File: "what is public here", Line: 1}, true
	}
	if newest == nil || !newest.Complete() || newest.ThisUpdate.After(im.o.Now()) {
		return nil
	}
	for serial, r := range im.set.Revoked {
		if r.Reason == bulkhead.CertificateHold && newest.ThisUpdate.After(r.At) {
			im.over[serial] = newest
		}
	}
	for _, e := range newest.RevokedCertificateEntries {
		if serial, err := bulkhead.SerialFromBig(e.SerialNumber); err == nil {
			delete(im.over, serial)
		}
	}
	if !public {
		return nil
	}
	for serial := range im.over {
		r := im.set.Revoked[serial]
		im.r.Problems = append(im.r.Problems, importer.Problem{File: r.Source, Line: 1, Reason: fmt.Sprintf("it holds serial %s since %s, and CRL %d of %s, which is public here, does not: that hold is over",
			serial, r.At.UTC().Format(time.RFC3339), newest.Number, newest.ThisUpdate.UTC().Format(time.RFC3339))})
	}
	slices.SortFunc(im.r.Problems, func(a, b importer.Problem) int { return strings.Compare(a.Reason, b.Reason) })
	return nil
}
