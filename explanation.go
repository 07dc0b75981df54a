package bulkhead

import "time"

// OCSPExplanation says where an OCSP answer comes from. Fields are zero where that could not be found out; Missing says why.
type OCSPExplanation struct {
	Status     string      `json:"status"` // good, revoked, unknown, or the name of an error
	Issuer     string      `json:"issuer,omitempty"`
	Serial     string      `json:"serial,omitempty"`
	ProducedAt time.Time   `json:"produced_at,omitzero"`
	ThisUpdate time.Time   `json:"this_update,omitzero"`
	NextUpdate time.Time   `json:"next_update,omitzero"`
	RevokedAt  time.Time   `json:"revoked_at,omitzero"`
	Reason     string      `json:"reason,omitempty"`
	Believed   bool        `json:"believed"`          // our strict check takes it now
	Refused    string      `json:"refused,omitempty"` // why it does not
	Signer     OCSPSigner  `json:"signer"`
	Record     *OCSPRecord `json:"record,omitempty"`
	Published  *OCSPPublic `json:"published,omitempty"`
	Cache      *OCSPCache  `json:"cache,omitempty"`
	Verdict    string      `json:"verdict"` // in one sentence
	Missing    []string    `json:"missing"` // what could not be found out, and why
}

// Foreign reports whether no key of ours is known to have signed the answer, or evidence does not know that one did.
func (e OCSPExplanation) Foreign() bool { return !e.Signer.Ours || e.Signer.Logged == "none" }

// OCSPSigner is the key that signed.
type OCSPSigner struct {
	Subject   string `json:"subject,omitempty"`
	Serial    string `json:"serial,omitempty"`
	KeySHA256 Hash   `json:"key_sha256,omitzero"`
	Ours      bool   `json:"ours"`
	Logged    string `json:"logged,omitempty"`   // evidence of the signature: "leaf N", "none", or why that is not known
	Evidence  int64  `json:"evidence,omitempty"` // sequence of the batch's intent
	Batch     string `json:"batch,omitempty"`
}

// OCSPRecord is the row of the certificate and what set it.
type OCSPRecord struct {
	State      string    `json:"state"`
	RevokedAt  time.Time `json:"revoked_at,omitzero"`
	Reason     string    `json:"reason,omitempty"`
	NotAfter   time.Time `json:"not_after,omitzero"`
	Evidence   int64     `json:"evidence"` // sequence of its issue
	Change     string    `json:"change,omitempty"`
	ChangedBy  string    `json:"changed_by,omitempty"`
	Why        string    `json:"why,omitempty"`
	ChangedAt  time.Time `json:"changed_at,omitzero"`
	ChangeHead uint64    `json:"change_head,omitempty"` // head that carried the change
	Agrees     bool      `json:"agrees"`                // with what the answer says
}

// OCSPPublic is what the origin publishes for the certificate now.
type OCSPPublic struct {
	Head       uint64    `json:"head"`
	HeadAt     time.Time `json:"head_at"`
	Epoch      uint64    `json:"epoch"`
	Generation uint64    `json:"generation"`
	Change     string    `json:"change,omitempty"` // that made the epoch
	Pack       string    `json:"pack,omitempty"`
	ThisUpdate time.Time `json:"this_update,omitzero"`
	Same       bool      `json:"same"` // the answer is byte for byte the published one
	Older      bool      `json:"older"`
}

// OCSPCache is what HTTP headers say of the way that the answer came.
type OCSPCache struct {
	Age       string    `json:"age,omitempty"` // how long a cache has held it
	MaxAge    string    `json:"max_age,omitempty"`
	KeepUntil time.Time `json:"keep_until,omitzero"` // until when caches may go on serving it
	Via       string    `json:"via,omitempty"`
	ETag      string    `json:"etag,omitempty"`
	FetchedAt time.Time `json:"fetched_at,omitzero"` // Date of the reply
}
