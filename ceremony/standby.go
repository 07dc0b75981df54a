package ceremony

import (
	"bytes"

	"bulkhead"
)

// StandbyStep signs a certificate for an issuing authority's key under another root, to lie ready: when the authority's
// own root is lost, the chain that is served switches to it, and no ceremony is needed on that day.
type StandbyStep struct {
	Subject bulkhead.AuthorityID `json:"subject" yaml:"subject"` // an existing issuing or infrastructure authority
	Parent  bulkhead.AuthorityID `json:"parent" yaml:"parent"`   // another root, whose key is in the room
	Days    int                  `json:"days" yaml:"days"`       // cut to the parent's end
}

// Standby is a certificate that lies ready.
type Standby struct {
	Authority   bulkhead.AuthorityID
	Certificate []byte   // DER
	Chain       [][]byte // DER, nearest first, the other root last
}

func (s StandbyStep) check(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind) error {
	cross := CrossStep{Subject: s.Subject, Parent: s.Parent, Days: s.Days}
	if err := cross.check(known); err != nil {
		return err
	}
	if known[s.Subject] == bulkhead.RootAuthority {
		return refused("%s is a root: a stand-by is for an issuing authority", s.Subject).WithHint("a second certificate for a root is a cross step")
	}
	if known[s.Parent] != bulkhead.RootAuthority {
		return refused("%s is no root: a stand-by stands under another root", s.Parent).WithHint("parent: a root whose key is in this ceremony's ring")
	}
	return nil
}

func (e *execution) makeStandby(s StandbyStep) (Entry, error) {
	parent, err := e.parent(s.Parent)
	if err != nil {
		return Entry{}, err
	}
	subject := e.houses[s.Subject]
	if bytes.Equal(subject.cert.RawIssuer, parent.Subject) || bytes.Equal(subject.cert.AuthorityKeyId, parent.cert.SubjectKeyId) {
		return Entry{}, refused("%s stands under %s already: a stand-by under the same root falls with it", s.Subject, s.Parent).WithHint("parent: another root")
	}
	cert, err := e.crossCertificate(parent, subject, s.Days, 0)
	if err != nil {
		return Entry{}, err
	}
	e.result.Standbys = append(e.result.Standbys, Standby{Authority: s.Subject, Certificate: cert.Raw, Chain: parent.chain()})
	return Entry{
		Kind: "standby", Authority: s.Subject, Signer: parent.ID,
		Inputs:  []Item{{What: "certificate", Digest: bulkhead.Digest(subject.cert.Raw)}, issuerItem(parent)},
		Outputs: []Item{certificateItem(cert)},
	}, nil
}
