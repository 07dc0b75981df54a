// Package outside looks at the house as a stranger does, and at its own record beside it: it fetches OCSP answers and CRLs
// through the status listener and every cache, asks who signed them and whether the record says the same, and reconciles
// record, evidence and what is published, all the time. It also explains where a given answer comes from.
//
// Purpose: a wrong status is found in minutes and not by customers (in 2016 it took 2 h 20 min until they called), and for
// an unexpected answer the record, the change, the signer, the epoch and the cache are named.
//
// Invariant: what is held against each other is read twice before an alarm is raised, so that a switch of heads between two
// looks is no alarm; everything is bounded and goes on where it was. What cannot be looked at is an alarm of its own.
//
// Refuses: to act, to delay anything, to follow a redirect, to dial anything but the configured addresses, to believe an
// answer because it parses.
package outside

import (
	"context"
	"crypto/x509"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

// Record is the durable record as a watcher reads it, and where it keeps what it must not forget.
type Record interface {
	Authorities(ctx context.Context) ([]bulkhead.Authority, error)
	Certificate(ctx context.Context, ref bulkhead.CertificateRef) (bulkhead.Certificate, []byte, error)
	Certificates(ctx context.Context, f bulkhead.CertificateFilter) (rows []bulkhead.Certificate, next string, err error)
	// CertificatesByKey returns the certificates (issued or revoked, not expired at t) that hold a key.
	CertificatesByKey(ctx context.Context, key bulkhead.Hash, t time.Time) ([]bulkhead.Certificate, error)
	Delegates(ctx context.Context, issuer bulkhead.AuthorityID) ([]bulkhead.Delegate, error)
	Statuses(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Status, error)
	// StatusPage returns issued and revoked rows of an issuer whose notAfter is not before from, in serial order.
	StatusPage(ctx context.Context, issuer bulkhead.AuthorityID, after bulkhead.Serial, from time.Time, limit int) ([]bulkhead.Status, error)
	// Owed counts an authority's certificates that have not ended at t, OCSP delegates left out.
	Owed(ctx context.Context, issuer bulkhead.AuthorityID, t time.Time) (bulkhead.Owed, error)
	// Pruned reports whether a certificate was issued and its row went with age.
	Pruned(ctx context.Context, ref bulkhead.CertificateRef) (bool, error)
	// CertificateChanges returns the changes that name the certificates, the newest first.
	CertificateChanges(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.CertificateChange, error)
	// CertificatesBySerial returns the rows that exist among the serials, without their DER.
	CertificatesBySerial(ctx context.Context, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) ([]bulkhead.Certificate, error)
	Order(ctx context.Context, id string) (bulkhead.Order, error)
	Authorization(ctx context.Context, id string) (bulkhead.Authorization, error)
	// OrdersEvidence returns on what each of the orders rests; it leaves out orders that do not exist.
	OrdersEvidence(ctx context.Context, orders ...string) (map[string]*bulkhead.OrderEvidence, error)
	// EvidenceAfter returns rows with a sequence above seq, in order, without gaps.
	EvidenceAfter(ctx context.Context, seq int64, limit int) ([]bulkhead.EvidenceRow, error)
	EvidenceHead(ctx context.Context) (seq int64, chain bulkhead.Hash, err error)
	// SignatureCounters returns the counter of every key that signed, and the newest evidence row at that moment.
	SignatureCounters(ctx context.Context) (head int64, counters []bulkhead.SignatureCounter, err error)
	Head(ctx context.Context) (bulkhead.HeadRecord, error)
	// CRLsSeen returns the highest number that was seen public of each shard's CRL, in this life or an earlier one.
	CRLsSeen(ctx context.Context) ([]bulkhead.CRLSeen, error)
	// SeeCRLs keeps numbers that were seen; none goes back.
	SeeCRLs(ctx context.Context, seen []bulkhead.CRLSeen) error
}

// Public is what stands at the origin, to be read.
type Public interface {
	// Open verifies the public head and opens what it names; Close lets go of it. Slices found in a view are good until then.
	Open(ctx context.Context) (*View, error)
}

// View is one published head with its objects.
type View struct {
	Head    *pack.Head
	Issuers map[bulkhead.AuthorityID]*Issuer
	// ReadCRL reads a CRL's object.
	ReadCRL func(ctx context.Context, ref pack.CRLRef) ([]byte, error)
	Closer  func()
}

// Close lets go of what was mapped.
func (v *View) Close() {
	if v.Closer != nil {
		v.Closer()
	}
}

// Issuer is what a head names for one issuer.
type Issuer struct {
	Head        *pack.IssuerHead
	Certificate *x509.Certificate
	Packs       []*pack.Pack // newest first
}

// published is the newest answer for a serial, in copies.
type published struct {
	pack       pack.ObjectRef
	revoked    bool
	this, next time.Time
	der        map[ocsp.HashAlgorithm][]byte
}

// find looks a serial up as the edge does: the newest pack that knows it speaks, and none below one that is damaged.
func (i *Issuer) find(serial bulkhead.Serial) (published, bool) {
	key := serial.Fixed()
	for n, p := range i.Packs {
		out := published{der: map[ocsp.HashAlgorithm][]byte{}}
		for _, hash := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
			var f pack.Found
			ok, err := p.FindHash(&key, hash, &f)
			if err != nil {
				return published{}, false
			}
			if !ok {
				break
			}
			out.pack, out.revoked = i.Head.Packs[n], f.Revoked
			out.this, out.next = time.Unix(f.ThisUpdate, 0).UTC(), time.Unix(f.NextUpdate, 0).UTC()
			out.der[hash] = ocsp.Assemble(f.TBS, f.Signature, f.Responder)
		}
		if len(out.der) > 0 {
			return out, true
		}
	}
	return published{}, false
}

// crl is the newest CRL of a shard.
func (i *Issuer) crl(shard int) (pack.CRLRef, bool) {
	for _, c := range i.Head.CRLs {
		if c.Shard == shard {
			return c, true
		}
	}
	return pack.CRLRef{}, false
}

// AvailableWithin is how soon after its issue a certificate's status must be answered (BR 4.9.9).
const AvailableWithin = 15 * time.Minute

// Raise records an alarm.
type Raise func(ctx context.Context, a bulkhead.Alarm)

// alarm makes one of now.
func alarm(now time.Time, detector, key string, severity bulkhead.Severity, runbook, message string) bulkhead.Alarm {
	now = now.UTC()
	return bulkhead.Alarm{Detector: detector, Key: key, Severity: severity, Message: message, Runbook: runbook, FirstAt: now, LastAt: now, Count: 1}
}
