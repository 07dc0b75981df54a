package bulkhead

import "time"

// States of an authority of another program: its key is elsewhere, it issues elsewhere.
const (
	// AuthorityForeign: imported to look at. It answers elsewhere, nothing is published for it here.
	AuthorityForeign AuthorityState = "foreign"
	// AuthorityForeignServed: it gave a delegate. What was imported of its certificates is answered here too, and the CRLs that
	// it signed are published here when they were imported.
	AuthorityForeignServed AuthorityState = "foreign-served"
)

// Foreign reports whether the authority's key belongs to another program.
func (a Authority) Foreign() bool {
	return a.State == AuthorityForeign || a.State == AuthorityForeignServed
}

// Imported is a certificate of a foreign authority on its way into the record.
type Imported struct {
	Certificate Certificate // State Issued or Revoked, with RevokedAt and Reason when revoked
	DER         []byte
	File        string // where it was read, for whoever is told of it; not kept
	Line        int
	Leaf        Evidence // EvImportedCertificate
	Revocation  Evidence // EvImportedRevocation; Kind 0 when it is not revoked
}

// Restated is what a foreign authority says now of a certificate that it held (certificateHold, RFC 5280 section 5.3.1): nothing
// else that it revoked ever changes. State is Issued when it ended the hold; Revoked with another reason, or a later hold.
type Restated struct {
	CertificateRef
	State     CertificateState
	RevokedAt time.Time
	Reason    Reason
	Leaf      Evidence // EvImportedRelease or EvImportedRevocation
}

// ImportResult is what became of one item.
type ImportResult string

// What became of an item.
const (
	ImportedNew     ImportResult = "new"
	ImportedRevoked ImportResult = "revoked" // known, and now revoked
	ImportedKnown   ImportResult = "known"   // nothing changed
	ImportRefused   ImportResult = "refused" // the record has another certificate under the serial
)

// WhyNotHere says why nothing can be signed for an authority without a key here.
func (a Authority) WhyNotHere() string {
	if a.State == AuthorityForeignServed {
		return "authority " + string(a.ID) + " was imported: its key is elsewhere, and only it can sign a CRL with a new entry. Revoke where the key is, then take its new CRL, which is answered and published here at once: bulkhead import"
	}
	if a.State == AuthorityForeign {
		return "authority " + string(a.ID) + " was imported: its key is elsewhere and gave no delegate, so no status is published for it here. Revoke where the key is, then take its new CRL: bulkhead import"
	}
	return "the key of " + string(a.ID) + " is offline: its CRL needs a ceremony first"
}
