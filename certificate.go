package bulkhead

import (
	"strings"
	"time"
)

// CertificateRef names one certificate: issuing authority and serial. Status is keyed by nothing else (promise P1).
type CertificateRef struct {
	Issuer AuthorityID
	Serial Serial
}

// String is "issuer,serial", the form of a line in a file of serials.
func (r CertificateRef) String() string { return string(r.Issuer) + "," + r.Serial.String() }

// ParseCertificateRef reads what String writes; spaces beside the comma do not count. KindMalformed.
func ParseCertificateRef(text string) (CertificateRef, error) {
	issuer, serial, found := strings.Cut(text, ",")
	r := CertificateRef{Issuer: AuthorityID(strings.TrimSpace(issuer))}
	if !found {
		return r, Faultf(KindMalformed, "%q is no certificate", text).WithHint("ISSUER,SERIAL")
	}
	err := r.Issuer.Check()
	if err == nil {
		r.Serial, err = ParseSerial(strings.TrimSpace(serial))
	}
	return r, err
}

// CertificateState is the life of a certificate row. Expiry is by date and is no state.
type CertificateState string

// Certificate states.
const (
	Reserved  CertificateState = "reserved"  // serial and intent are durable; nothing signed, or the signature is not yet durable
	Issued    CertificateState = "issued"    // certificate and outcome are durable
	Revoked   CertificateState = "revoked"   // with time and reason
	Abandoned CertificateState = "abandoned" // the intent never led to a durable certificate; the serial is dead for ever
)

// certificateMoves is the table of legal state changes.
var certificateMoves = map[CertificateState][]CertificateState{
	Reserved:  {Issued, Abandoned},
	Issued:    {Revoked},
	Revoked:   {Revoked}, // a reason may be upgraded to keyCompromise (BR 7.2.2)
	Abandoned: {},
}

// CanMove reports whether a certificate may go from state s to t.
func (s CertificateState) CanMove(t CertificateState) bool {
	for _, x := range certificateMoves[s] {
		if x == t {
			return true
		}
	}
	return false
}

// CanRestore reports whether a change that takes another back may move a certificate from s to t. No other path may: a
// revocation stands (BR 4.9.13, 4.10.1), and what is dead or open never changes.
func (s CertificateState) CanRestore(t CertificateState) bool {
	return s == Revoked && (t == Issued || t == Revoked)
}

// CertificateKind separates what subscribers hold from what the house holds.
type CertificateKind string

// Certificate kinds.
const (
	LeafCertificate CertificateKind = "leaf" // subscriber
	// Precertificate is signed for CT logs (RFC 6962 section 3.1) and counts as issued: it is answered for and can be
	// revoked. It is handed to nobody else; its row becomes a leaf with the certificate.
	Precertificate      CertificateKind = "precertificate"
	CACertificate       CertificateKind = "ca"       // subordinate or cross-certificate
	DelegateCertificate CertificateKind = "delegate" // OCSP responder (BR 7.1.2.8)
	InfraCertificate    CertificateKind = "infra"    // our own listeners and roles
)

// Certificate is one row of the store.
type Certificate struct {
	CertificateRef
	Kind        CertificateKind
	State       CertificateState
	Profile     string
	Names       []Identifier
	Subject     string // RFC 4514 text, for search
	KeyHash     Hash   // SHA-256 of the DER SubjectPublicKeyInfo
	Fingerprint Hash   // SHA-256 of DER; zero until issued
	AccountID   string
	OrderID     string
	NotBefore   time.Time
	NotAfter    time.Time
	Shard       int // CRL shard, fixed at issue
	RevokedAt   time.Time
	Reason      Reason
	ReservedAt  time.Time
	Replaces    CertificateRef
	ReplacedBy  CertificateRef
	IntentSeq   int64 // evidence sequence numbers
	OutcomeSeq  int64 // 0 until issued; commit order of issuance
}

// Status is what the world is told of one certificate; it depends on that certificate's row alone.
type Status struct {
	CertificateRef
	State     CertificateState
	RevokedAt time.Time
	Reason    Reason
	NotAfter  time.Time
	Shard     int
	Seq       int64 // evidence sequence of the outcome, for "what is new since"
}

// Reservation is an intent to sign: made durable before the key is used (promise P3).
type Reservation struct {
	Certificate Certificate // State Reserved
	Intent      Evidence
	Volume      *Volume // counts against a registration partner; nil for none
}

// Completion is a signed certificate becoming durable, before anyone receives it.
type Completion struct {
	CertificateRef
	DER     []byte
	Outcome Evidence
}

// CertificateFilter selects rows of the inventory; zero fields match everything.
type CertificateFilter struct {
	Issuer        AuthorityID
	Serial        Serial
	Kind          CertificateKind
	State         CertificateState
	Profile       string
	Name          string // exact identifier value, or a suffix when it begins with "."
	Text          string // part of a name or of the subject, ASCII letters in any case
	KeyHash       Hash
	AccountID     string
	Partner       string // of accounts that a registration partner brought
	OrderID       string
	IssuedFrom    time.Time // reserved at this time or later
	IssuedBefore  time.Time
	ExpiresFrom   time.Time
	ExpiresBefore time.Time
	ExpiresBy     time.Time // at this time or earlier
	After         string    // cursor from the previous page
	Limit         int       // 0 means 100
}

// CertificateRequest is all that a caller may ask of the signer. Serial, dates and extensions are not here: a caller
// cannot choose them.
type CertificateRequest struct {
	Authority AuthorityID
	Profile   string
	CSR       []byte // DER PKCS#10; proves possession of the key
	Names     []Identifier
	AccountID string
	OrderID   string // the signer reads the evidence of validation and CAA from it
	Replaces  CertificateRef
}

// IssuedCertificate is a certificate that is durable in store and evidence.
type IssuedCertificate struct {
	Certificate Certificate
	DER         []byte
	Chain       [][]byte // issuer first, root last
}

// BlockedKey is a public key that must never appear in a certificate again (promise P10).
type BlockedKey struct {
	KeyHash   Hash
	BlockedAt time.Time
	Reason    string
	Actor     string
}

// Delegate is an OCSP responder key with its certificate (RFC 6960 section 4.2.2.2).
type Delegate struct {
	Authority   AuthorityID
	Certificate []byte // DER
	KeyURI      string
	NotBefore   time.Time
	NotAfter    time.Time
}

// AnswerRequest asks the signer for OCSP answers. The caller names certificates, never statuses: the signer reads
// those from the one record, with the items of Change laid over them when a change is being staged.
type AnswerRequest struct {
	Authority  AuthorityID
	Serials    []Serial
	Change     string // id of an approved or staged change, "" for a refresh or for new certificates
	ThisUpdate time.Time
	NextUpdate time.Time
	Object     string // name of the object that will carry them, for evidence
}

// SignedAnswer is what is said of one certificate, split as packs keep it: what differs per answer (RFC 6960 section
// 4.2.1). There are two, one for each hash a CertID may have, because Go's OCSP library refuses a response with two
// SingleResponses (doc/decisions/0003).
type SignedAnswer struct {
	Status       Status
	TBS          []byte // DER ResponseData for the SHA-1 CertID
	Signature    []byte // DER ECDSA-Sig-Value by the delegate, ecdsa-with-SHA256
	TBS256       []byte // the same for the SHA-256 CertID
	Signature256 []byte
}

// AnswerBatch is what one batch token signed.
type AnswerBatch struct {
	ID         string
	Responder  []byte // DER certificate of the delegate
	ThisUpdate time.Time
	NextUpdate time.Time // may be earlier than asked: never after the delegate's own end
	Answers    []SignedAnswer
	Missing    []Serial // never issued by us, reserved or abandoned: no answer is signed (promise P11)
}

// CRLRequest asks the signer for the CRL of one shard. Entries come from the record, not from the caller.
type CRLRequest struct {
	Authority  AuthorityID
	Shard      int
	Number     int64
	Change     string
	ThisUpdate time.Time
	NextUpdate time.Time
	Object     string
}
