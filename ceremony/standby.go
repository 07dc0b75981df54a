package ceremony

import (
	"bytes"
	"crypto/x509"
	"reflect"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/profile"
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

// AcceptStandby judges a stand-by for an authority of the house: it is for exactly its name, key, usage and constraints,
// signs no authorities, and verifies up to a root other than the one that the authority stands under now. chain holds the
// certificates above it, nearest first, the root last. KindGate otherwise.
func AcceptStandby(a bulkhead.Authority, certificate []byte, chain [][]byte, now time.Time) (bulkhead.Standby, error) {
	none := bulkhead.Standby{}
	served, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return none, malformedCertificate(err)
	}
	cert, err := x509.ParseCertificate(certificate)
	if err != nil {
		return none, malformedCertificate(err)
	}
	if err := acceptable(a, cert, now); err != nil {
		return none, err
	}
	switch {
	case !bytes.Equal(cert.RawSubject, a.Subject) || !bytes.Equal(cert.SubjectKeyId, served.SubjectKeyId):
		return none, refused("the stand-by has another name or key identifier than %s: what it signed would not chain to it", a.ID).WithHint("have it signed as a cross-certificate of " + string(a.ID))
	case !sameUsages(cert, served) || !reflect.DeepEqual(profile.ConstraintsOf(cert), profile.ConstraintsOf(served)):
		return none, refused("the stand-by has other extended key usages or name constraints than the certificate of %s", a.ID).WithHint("a stand-by grants nothing and takes nothing away")
	}
	if err := acceptChain(cert, chain, now); err != nil {
		return none, err
	}
	top := chain[len(chain)-1]
	if len(a.Chain) > 0 && bytes.Equal(top, a.Chain[len(a.Chain)-1]) {
		return none, refused("%s stands under this root already: a stand-by under it falls with it", a.ID).WithHint("have it signed by another root")
	}
	out := bulkhead.Standby{Authority: a.ID, Certificate: cert.Raw, NotAfter: cert.NotAfter.UTC(), AddedAt: now.UTC().Truncate(time.Second)}
	for _, der := range chain {
		out.Chain = append(out.Chain, bytes.Clone(der))
	}
	return out, nil
}

func sameUsages(x, y *x509.Certificate) bool {
	sorted := func(c *x509.Certificate) []x509.ExtKeyUsage {
		out := slices.Clone(c.ExtKeyUsage)
		slices.Sort(out)
		return out
	}
	return slices.Equal(sorted(x), sorted(y)) && len(x.UnknownExtKeyUsage) == len(y.UnknownExtKeyUsage)
}
