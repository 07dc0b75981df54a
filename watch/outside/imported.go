package outside

import (
	"context"
	"strings"
	"time"

	"bulkhead"
)

// importedPage is page for a foreign authority whose status is published here. Its rows rest on the leaves of imports: nobody here
// signed them, and no change of ours revoked them. Its CRLs are its own, so the record is held against the answers alone: an index, or a
// CRL that is not published, may have said more since.
func (r *Reconciler) importedPage(ctx context.Context, is *Issuer, _ *lists, page []bulkhead.Status, now time.Time) error {
	for _, st := range page {
		said, err := r.evidentImport(ctx, st)
		if err != nil {
			return err
		}
		a, ok := is.find(st.Serial)
		since := now.Sub(said)
		if begun := now.Sub(r.foreign[is.Head.ID]); begun < since { // what was imported long before is answered only now
			since = begun
		}
		revoked := st.State == bulkhead.Revoked
		switch {
		case !ok && since > AvailableWithin:
			r.unanswered(ctx, st)
		case ok && revoked && !a.revoked && since > r.cfg.Agree:
			r.lagging(ctx, st, since, []string{"the OCSP packs: the answer in " + a.pack.Name + " says good"})
		case ok && !revoked && a.revoked:
			r.flipped(ctx, st.CertificateRef)
		}
	}
	return nil
}

// evidentImport is D4 for what was imported: the newest leaf of a row is of its import, or of what a later one said of it. It
// returns when that was.
func (r *Reconciler) evidentImport(ctx context.Context, st bulkhead.Status) (time.Time, error) {
	e, err := leafAt(ctx, r.cfg.Record, st.Seq)
	if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return time.Time{}, err
	}
	says := map[bulkhead.EvidenceKind]bool{bulkhead.EvImportedCertificate: true, bulkhead.EvImportedRevocation: st.State == bulkhead.Revoked, bulkhead.EvImportedRelease: st.State == bulkhead.Issued}
	if err == nil && says[e.Kind] && e.Authority == st.Issuer && e.Serial == st.Serial {
		return e.At, nil
	}
	r.raise(ctx, "D4", "evidence,"+st.CertificateRef.String(), bulkhead.Critical, "d4-record-evidence.md",
		"the record says that the imported certificate %s is %s, and evidence has no import that says so: the row was written past the importer", st.CertificateRef, st.State)
	return r.cfg.Now(), nil
}

// unanswered is D14 for one certificate.
func (r *Reconciler) unanswered(ctx context.Context, st bulkhead.Status) {
	r.raise(ctx, "D14", st.CertificateRef.String(), bulkhead.Critical, "d14-coverage.md", "%s was issued and no pack holds an answer for it: clients get no status", st.CertificateRef)
}

// lagging is D8 for one certificate.
func (r *Reconciler) lagging(ctx context.Context, st bulkhead.Status, since time.Duration, lag []string) {
	r.raise(ctx, "D8", st.CertificateRef.String(), bulkhead.Critical, "d8-revocation-missing.md", "%s was revoked %s ago and is not revoked everywhere: the laggard is %s", st.CertificateRef, since.Round(time.Second), strings.Join(lag, "; and "))
}
