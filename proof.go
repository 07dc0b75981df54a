package bulkhead

// SignatureCounter is how often a key was used, counted in the transactions of the evidence and apart from it.
type SignatureCounter struct {
	Key       Hash  // SHA-256 of the SPKI of the key that signs
	Announced int64 // signatures that intents allowed
	Made      int64 // signatures that outcomes reported
	Since     int64 // evidence sequence of the first leaf counted; a record older than the counter began before it
}

// SignedRow is what the record says of one certificate, as a proof compares it with the evidence.
type SignedRow struct {
	CertificateRef
	Kind         CertificateKind
	State        CertificateState
	KeyHash      Hash
	IntentDigest Hash
	Fingerprint  Hash // zero until issued
	OrderID      string
	AccountID    string
	Names        []Identifier // good until the next row
	IntentSeq    int64
	OutcomeSeq   int64  // 0 until issued
	DER          []byte // nil until issued
	Sum          Hash   // SHA-256 of DER, computed when it was read
	Precert      Hash   // SHA-256 of the precertificate, zero when there was none
	Status       Status // as the status service sees the row
}
