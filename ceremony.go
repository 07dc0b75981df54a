package bulkhead

import "time"

// Ceremony is the record of one ceremony, or of a rehearsal, as it was imported.
type Ceremony struct {
	Digest     Hash // SHA-256 of the signed transcript
	Previous   Hash // of the one before it; zero for a root's first
	Root       Hash // SHA-256 of the root certificate that signed the transcript
	Title      string
	Rehearsal  bool
	Change     string    // the change that it carries; "" for none
	BeganAt    time.Time // when the people began, as they say; when the machine did, where nobody took the time
	FinishedAt time.Time
	ImportedAt time.Time
	Actor      string // who imported it
	Signed     []byte // the transcript
}

// Standby is a second certificate for an issuing authority's key, under another root. It is served to nobody until the
// chain is switched to it; then the certificate that was served before takes its place, and is offered as an alternate
// until OfferedUntil.
type Standby struct {
	Authority    AuthorityID
	Under        AuthorityID // the root
	Certificate  []byte      // DER
	Chain        [][]byte    // DER, nearest first, the root last
	NotAfter     time.Time
	AddedAt      time.Time
	OfferedUntil time.Time // zero when it lies ready and was never served, or is not offered any more
}

// CeremonyParts is what an import puts into the record together with the ceremony.
type CeremonyParts struct {
	Authorities []Authority // new ones, and pending ones that got their certificate
	Delegates   []Delegate
	Prepared    []Prepared
	Standbys    []Standby
	Destroyed   []AuthorityID // revoked authorities, or roots, whose key is gone
}
