package bulkhead

// Preview is what a change of status would do, computed before anything is signed. Its JSON is kept with the change; its
// hash is what an approval quotes. Certificates are named by issuer and serial; counts of what is below an authority are
// of leaves that are issued and not expired.
type Preview struct {
	Change         string                 `json:"change"`
	Why            string                 `json:"why"`
	Direct         []PreviewItem          `json:"direct"`          // at most 100 shown; Count has all
	Count          int                    `json:"count"`           // certificates named by the change
	Authorities    int                    `json:"authorities"`     // of them, certificates of authorities
	AnswersChanged int                    `json:"answers_changed"` // answers that differ afterwards, recomputed
	ByIssuer       map[AuthorityID]int    `json:"by_issuer"`
	ByProfile      map[string]int         `json:"by_profile"`
	AnchorSets     []string               `json:"anchor_sets"`   // the kinds of relying parties that were looked at
	PathsLost      []PathReport           `json:"paths_lost"`    // for each anchor set with losses: who loses the last path
	PathsReduced   []PathReport           `json:"paths_reduced"` // who loses a path and has another
	Unaffected     map[AuthorityID]Spared `json:"unaffected"`    // authorities with no certificate in the change and no path touched
	Misread        []Misread              `json:"misread"`       // what responders with bad habits would say; not ours
	Shadow         Shadow                 `json:"shadow"`
	Subtree        []SubtreeAuthority     `json:"subtree"`    // authorities at or below one that the change revokes
	Ceremonies     []NeededCeremony       `json:"ceremonies"` // CRLs that only a ceremony can sign
	Warnings       []string               `json:"warnings"`
	Blocked        []string               `json:"blocked"` // why the change cannot go on
	Items          Hash                   `json:"items"`   // digest over certificates, reasons and dates, all of them
	World          Hash                   `json:"world"`   // digest of authorities, their certificates and the anchor sets; the preview is stale when it moves
}

// SubtreeAuthority is an authority at or below a revoked one.
type SubtreeAuthority struct {
	Authority    AuthorityID    `json:"authority"`
	State        AuthorityState `json:"state"`
	Certificates int64          `json:"certificates"` // in use, its OCSP delegates left out
}

// NeededCeremony is a ceremony without which a change cannot go public.
type NeededCeremony struct {
	Authority AuthorityID `json:"authority"` // whose CRL has to be signed
	Ready     bool        `json:"ready"`     // it was held and imported
	Why       string      `json:"why,omitempty"`
	Next      string      `json:"next,omitempty"`
}

// PreviewItem is one certificate of a preview.
type PreviewItem struct {
	Issuer  AuthorityID      `json:"issuer"`
	Serial  Serial           `json:"serial"`
	Names   []string         `json:"names"`
	Subject string           `json:"subject,omitempty"`
	Kind    CertificateKind  `json:"kind"`
	Before  CertificateState `json:"before"`
	After   CertificateState `json:"after"`
	Reason  string           `json:"reason"`
}

// PathReport is what happens to paths for one kind of relying party.
type PathReport struct {
	Anchors     string             `json:"anchors"`     // as in Preview.AnchorSets
	Authorities []NamedCertificate `json:"authorities"` // certificates of authorities, without those that the change revokes
	Products    []ProductCount     `json:"products"`
	Leaves      int64              `json:"leaves"` // sum over Products
}

// NamedCertificate is a certificate for people.
type NamedCertificate struct {
	Issuer AuthorityID `json:"issuer,omitempty"` // "" when it is not one of ours
	Serial Serial      `json:"serial"`
	Name   string      `json:"name"`
}

// ProductCount is how many certificates in use an authority has under one profile, with a few names.
type ProductCount struct {
	Issuer       AuthorityID `json:"issuer"`
	Product      string      `json:"product"`
	Certificates int64       `json:"certificates"`
	Samples      []string    `json:"samples"` // names of those that last longest
}

// Spared is an authority to which nothing happens: the roots that it hangs under and its products.
type Spared struct {
	Roots    []AuthorityID `json:"roots"`
	Products []string      `json:"products"`
}

// Misread is what an OCSP responder with one habit would call revoked in excess.
type Misread struct {
	Habit        string             `json:"habit"`        // subject-and-key, key, serial, newest-twin
	Certificates []NamedCertificate `json:"certificates"` // at most 20 shown
	Count        int64              `json:"count"`        // certificates of authorities and single ones
	Products     []ProductCount     `json:"products"`     // leaves that such answers would take down, directly or by their path
	AtLeast      bool               `json:"at_least,omitempty"`
}

// Shadow is the recomputation of answers by the house's own answer function with the change laid over the record.
type Shadow struct {
	Recomputed int64              `json:"recomputed"` // answers computed twice, without and with the change
	Outside    int64              `json:"outside"`    // of them, those that differ and are not of the change: must be 0
	Samples    []NamedCertificate `json:"samples"`    // of those outside, at most 20
}

// ShadowAnswer is what the house says of a certificate, and what it would say with a change.
type ShadowAnswer struct {
	Before, After Status
}

// Product is what an authority has in use under one profile.
type Product struct {
	Issuer  AuthorityID
	Profile string
	Samples []Certificate // a few of those that last longest
}
