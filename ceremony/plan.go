package ceremony

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/url"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/profile"
)

const (
	day = 24 * time.Hour
	// maxRootDays is the longest life of a root (BR 7.1.2.1.1).
	maxRootDays = 9132
	// maxCRLDays: nextUpdate of an authority's CRL is at most 12 months after thisUpdate (BR 7.2).
	maxCRLDays = 365
	// maxObjects bounds what one step may sign in advance.
	maxObjects = 120
	maxPlan    = 1 << 20
)

// Plan is what the people in the room review: everything that will be signed, with nothing left to choose.
type Plan struct {
	Title     string               `json:"title" yaml:"title"`
	StatusURL string               `json:"status_url" yaml:"status_url"` // base of the addresses in certificates
	Root      bulkhead.AuthorityID `json:"root" yaml:"root"`             // whose key signs the transcript
	// Change is the revocation that this ceremony carries: what is signed here waits, after its import, for that change.
	Change   string     `json:"change,omitempty" yaml:"change,omitempty"`
	Existing []Existing `json:"existing,omitempty" yaml:"existing,omitempty"`
	Steps    []Step     `json:"steps" yaml:"steps"`
}

// Existing is an authority made before.
type Existing struct {
	ID          bulkhead.AuthorityID   `json:"id" yaml:"id"`
	Kind        bulkhead.AuthorityKind `json:"kind" yaml:"kind"`
	Certificate DER                    `json:"certificate" yaml:"certificate"`
	Chain       []DER                  `json:"chain,omitempty" yaml:"chain,omitempty"`
	KeyURI      string                 `json:"key_uri,omitempty" yaml:"key_uri,omitempty"` // in the ceremony's ring; "" when it signs nothing here
}

// Step is one signature, or one series of them. Exactly one field is set.
type Step struct {
	Root     *RootStep     `json:"root,omitempty" yaml:"root,omitempty"`
	Issuing  *IssuingStep  `json:"issuing,omitempty" yaml:"issuing,omitempty"`
	Cross    *CrossStep    `json:"cross,omitempty" yaml:"cross,omitempty"`
	Standby  *StandbyStep  `json:"standby,omitempty" yaml:"standby,omitempty"`
	Delegate *DelegateStep `json:"delegate,omitempty" yaml:"delegate,omitempty"`
	CRL      *CRLStep      `json:"crl,omitempty" yaml:"crl,omitempty"`
	Destroy  *DestroyStep  `json:"destroy,omitempty" yaml:"destroy,omitempty"`
}

// RootStep makes a root: its key in the ceremony's ring, named as the authority, and its certificate.
type RootStep struct {
	ID        bulkhead.AuthorityID `json:"id" yaml:"id"`
	Subject   Name                 `json:"subject" yaml:"subject"`
	Algorithm keys.Algorithm       `json:"algorithm" yaml:"algorithm"`
	Days      int                  `json:"days" yaml:"days"`
}

// IssuingStep signs an issuing (or infrastructure) authority whose key is elsewhere: its CSR comes in.
type IssuingStep struct {
	ID      bulkhead.AuthorityID   `json:"id" yaml:"id"`
	Kind    bulkhead.AuthorityKind `json:"kind" yaml:"kind"`
	Parent  bulkhead.AuthorityID   `json:"parent" yaml:"parent"`
	Subject Name                   `json:"subject" yaml:"subject"` // the CSR's own subject is ignored
	Request Request                `json:"request" yaml:"request"`
	Days    int                    `json:"days" yaml:"days"` // cut to the parent's end
	Shards  int                    `json:"shards" yaml:"shards"`
	Usage   profile.Usage          `json:"usage,omitempty" yaml:"usage,omitempty"` // tls (the default), smime or code-signing; one authority, one usage
	// Names limit what the authority may certify (RFC 5280 section 4.2.1.10).
	Names profile.NameConstraints `json:"name_constraints,omitzero" yaml:"name_constraints,omitempty"`
}

// CrossStep signs a second certificate for an authority.
type CrossStep struct {
	Subject bulkhead.AuthorityID `json:"subject" yaml:"subject"`
	Parent  bulkhead.AuthorityID `json:"parent" yaml:"parent"`
	Days    int                  `json:"days" yaml:"days"`
	PathLen int                  `json:"path_len" yaml:"path_len"`
}

// DelegateStep signs OCSP delegates that answer for the children of an authority whose key is offline. All are valid
// from now, because a responder's notBefore may not lie after its signing (BR 7.1.2.8.1); number i ends Overlap after
// the (i+1)th turnover, so that each key can be destroyed when its successor takes over.
type DelegateStep struct {
	Authority    bulkhead.AuthorityID `json:"authority" yaml:"authority"`
	Subject      Name                 `json:"subject" yaml:"subject"`
	Requests     []Request            `json:"requests" yaml:"requests"`
	TurnoverDays int                  `json:"turnover_days" yaml:"turnover_days"`
	OverlapDays  int                  `json:"overlap_days" yaml:"overlap_days"`
}

// CRLStep signs the CRL of an authority with successors until the horizon: number k begins k turnovers from now and
// ends an overlap after its successor begins.
type CRLStep struct {
	Authority    bulkhead.AuthorityID `json:"authority" yaml:"authority"`
	AfterNumber  int64                `json:"after_number" yaml:"after_number"` // the highest CRL number ever signed; 0 for none
	HorizonDays  int                  `json:"horizon_days" yaml:"horizon_days"`
	TurnoverDays int                  `json:"turnover_days" yaml:"turnover_days"`
	OverlapDays  int                  `json:"overlap_days" yaml:"overlap_days"`
	Revoked      []RevokedChild       `json:"revoked,omitempty" yaml:"revoked,omitempty"`
}

// RevokedChild is a CRL entry.
type RevokedChild struct {
	Serial bulkhead.Serial `json:"serial" yaml:"serial"`
	At     time.Time       `json:"at" yaml:"at"`
	Reason string          `json:"reason" yaml:"reason"` // RFC 5280 name of one that BR 7.2.2 allows; required for authorities
}

// Name is the subject of one of the house's certificates (BR 7.1.2.10.2).
type Name struct {
	CommonName   string `json:"common_name" yaml:"common_name"`
	Organization string `json:"organization" yaml:"organization"`
	Country      string `json:"country" yaml:"country"` // ISO 3166-1, two letters
}

// PKIX is the name for crypto/x509.
func (n Name) PKIX() pkix.Name {
	return pkix.Name{CommonName: n.CommonName, Organization: []string{n.Organization}, Country: []string{n.Country}}
}

// Request is a key that exists elsewhere, with proof of possession.
type Request struct {
	CSR    DER    `json:"csr" yaml:"csr"`
	KeyURI string `json:"key_uri" yaml:"key_uri"` // how its holder finds the key; copied into the result
}

// DER is one DER object, written as PEM in plans.
type DER []byte

// MarshalText implements encoding.TextMarshaler.
func (d DER) MarshalText() ([]byte, error) {
	label := "CERTIFICATE"
	if _, err := x509.ParseCertificateRequest(d); err == nil {
		label = "CERTIFICATE REQUEST"
	}
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: d}), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *DER) UnmarshalText(text []byte) error {
	block, rest := pem.Decode(text)
	if block == nil || len(bytes.TrimSpace(rest)) != 0 {
		return bulkhead.NewFault(bulkhead.KindMalformed, "not one PEM block").WithHint("give one certificate or request as PEM")
	}
	*d = block.Bytes
	return nil
}

// ParsePlan reads a plan from YAML, strictly, and checks it.
func ParsePlan(text []byte) (Plan, error) {
	var p Plan
	if len(text) > maxPlan {
		return p, bulkhead.Faultf(bulkhead.KindMalformed, "plan has %d bytes, at most %d are read", len(text), maxPlan).WithHint("split the ceremony")
	}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&p); err != nil {
		return Plan{}, bulkhead.Faultf(bulkhead.KindMalformed, "plan is not readable: %s", strings.TrimPrefix(err.Error(), "yaml: ")).
			WithHint("unknown keys are errors").WithCause(err)
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Plan{}, bulkhead.NewFault(bulkhead.KindMalformed, "more than one YAML document in a plan").WithHint("give one plan per file")
	}
	return p, p.Check()
}

// Digest names the plan in the transcript: SHA-256 of its compact JSON. It is zero for a plan that Check refuses because
// JSON cannot hold one of its dates.
func (p Plan) Digest() bulkhead.Hash {
	text, err := json.Marshal(p)
	if err != nil {
		return bulkhead.Hash{}
	}
	return bulkhead.Digest(text)
}

// Check finds what is wrong with the plan before any key is touched.
func (p Plan) Check() error {
	u, err := url.Parse(p.StatusURL)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return refused("status_url %q is not an http URL", p.StatusURL).WithHint("certificates carry plain http addresses (BR 7.1.2.7.7), for example http://status.example.com")
	}
	if len(p.Steps) == 0 {
		return refused("the plan has no steps").WithHint("add a step: root, issuing, cross, standby, delegate, crl or destroy")
	}
	known := make(map[bulkhead.AuthorityID]bulkhead.AuthorityKind)
	subjects := make(map[Name]bool)
	for _, x := range p.Existing {
		if x.Kind != bulkhead.RootAuthority && x.Kind != bulkhead.IssuingAuthority && x.Kind != bulkhead.InfrastructureAuthority {
			return refused("existing %s has the kind %q", x.ID, x.Kind).WithHint("kind: root, issuing or infrastructure")
		}
		if err := checkNew(known, x.ID, x.Kind); err != nil {
			return err
		}
	}
	for i, s := range p.Steps {
		if s.count() != 1 {
			return refused("step %d has %d kinds", i+1, s.count()).WithHint("give each step exactly one of root, issuing, cross, standby, delegate, crl, destroy")
		}
		if err := s.check(known, subjects); err != nil {
			return inStep(i, s, err)
		}
	}
	if err := p.checkDestructions(); err != nil {
		return err
	}
	if known[p.Root] != bulkhead.RootAuthority {
		return refused("root %q is neither made here nor existing", p.Root).WithHint("root: names the root whose key signs the transcript")
	}
	return nil
}

func (s Step) count() int {
	n := 0
	for _, set := range []bool{s.Root != nil, s.Issuing != nil, s.Cross != nil, s.Standby != nil, s.Delegate != nil, s.CRL != nil, s.Destroy != nil} {
		if set {
			n++
		}
	}
	return n
}

func (s Step) name() string {
	switch {
	case s.Root != nil:
		return "root " + string(s.Root.ID)
	case s.Issuing != nil:
		return "issuing " + string(s.Issuing.ID)
	case s.Cross != nil:
		return "cross " + string(s.Cross.Subject) + " under " + string(s.Cross.Parent)
	case s.Standby != nil:
		return "standby " + string(s.Standby.Subject) + " under " + string(s.Standby.Parent)
	case s.Destroy != nil:
		return "destroy the key of " + string(s.Destroy.Authority)
	case s.Delegate != nil:
		return "delegate of " + string(s.Delegate.Authority)
	case s.CRL != nil:
		return "crl of " + string(s.CRL.Authority)
	}
	return "empty"
}

func (s Step) check(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind, subjects map[Name]bool) error {
	switch {
	case s.Root != nil:
		return s.Root.check(known, subjects)
	case s.Issuing != nil:
		return s.Issuing.check(known, subjects)
	case s.Cross != nil:
		return s.Cross.check(known)
	case s.Standby != nil:
		return s.Standby.check(known)
	case s.Destroy != nil:
		return s.Destroy.check(known)
	case s.Delegate != nil:
		return s.Delegate.check(known)
	default:
		return s.CRL.check(known)
	}
}

func (r RootStep) check(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind, subjects map[Name]bool) error {
	if _, err := keys.ParseAlgorithm(string(r.Algorithm)); err != nil {
		return err
	}
	if r.Algorithm == keys.Ed25519 {
		return refused("a root's key cannot be ed25519 (BR 6.1.5)").WithHint("algorithm: p384 or rsa4096")
	}
	if err := checkDays("days", r.Days, maxRootDays); err != nil {
		return err
	}
	if err := r.Subject.check(subjects); err != nil {
		return err
	}
	return checkNew(known, r.ID, bulkhead.RootAuthority)
}

func (s IssuingStep) check(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind, subjects map[Name]bool) error {
	if s.Kind != bulkhead.IssuingAuthority && s.Kind != bulkhead.InfrastructureAuthority {
		return refused("kind %q cannot be signed by a root", s.Kind).WithHint("kind: issuing or infrastructure")
	}
	if err := checkKnown(known, s.Parent); err != nil {
		return err
	}
	if err := checkDays("days", s.Days, maxRootDays); err != nil {
		return err
	}
	if _, err := profile.ParseUsage(string(s.Usage)); err != nil {
		return err
	}
	if err := s.Names.Check(); err != nil {
		return err
	}
	if s.Shards < 1 || s.Shards > 1<<16 {
		return refused("shards %d is not between 1 and 65536", s.Shards).WithHint("shards: 1 for a small authority, 128 for a large one")
	}
	if err := s.Subject.check(subjects); err != nil {
		return err
	}
	return checkNew(known, s.ID, s.Kind)
}

func (s CrossStep) check(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind) error {
	if err := checkKnown(known, s.Parent); err != nil {
		return err
	}
	if err := checkKnown(known, s.Subject); err != nil {
		return err
	}
	if s.Parent == s.Subject {
		return refused("an authority does not cross-sign itself").WithHint("parent: another authority")
	}
	if s.PathLen < 0 || s.PathLen > 8 {
		return refused("path_len %d is not between 0 and 8", s.PathLen).WithHint("path_len: 0 for an issuing authority, 1 for a root")
	}
	return checkDays("days", s.Days, maxRootDays)
}

func (s DelegateStep) check(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind) error {
	if err := checkKnown(known, s.Authority); err != nil {
		return err
	}
	if len(s.Requests) == 0 || len(s.Requests) > maxObjects {
		return refused("%d requests", len(s.Requests)).WithHint("give one request per turnover until the next ceremony")
	}
	if err := checkDays("turnover_days", s.TurnoverDays, maxRootDays); err != nil {
		return err
	}
	if err := checkDays("overlap_days", s.OverlapDays, maxRootDays); err != nil {
		return err
	}
	return s.Subject.check(make(map[Name]bool))
}

func (s CRLStep) check(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind) error {
	if err := checkKnown(known, s.Authority); err != nil {
		return err
	}
	if err := checkDays("horizon_days", s.HorizonDays, maxRootDays); err != nil {
		return err
	}
	if s.TurnoverDays < 1 || s.OverlapDays < 1 || s.TurnoverDays+s.OverlapDays > maxCRLDays {
		return refused("a CRL would live %d + %d days, at most %d are allowed (BR 7.2)", s.TurnoverDays, s.OverlapDays, maxCRLDays).
			WithHint("turnover_days: 30 and overlap_days: 30 make monthly CRLs")
	}
	if s.count() > maxObjects {
		return refused("%d CRLs in one step, at most %d", s.count(), maxObjects).WithHint("make turnover_days longer or horizon_days shorter")
	}
	for _, r := range s.Revoked {
		if _, err := r.At.MarshalText(); err != nil {
			return refused("certificate %s is revoked at a date that does not exist", r.Serial).WithHint("at: 2026-11-21T12:00:00Z")
		}
	}
	if s.AfterNumber < 0 {
		return refused("after_number %d is negative", s.AfterNumber).WithHint("after_number: the highest CRL number ever signed, 0 for none")
	}
	return nil
}

// count is the number of CRLs from now to the horizon.
func (s CRLStep) count() int { return (s.HorizonDays + s.TurnoverDays - 1) / s.TurnoverDays }

func (n Name) check(subjects map[Name]bool) error {
	switch {
	case n.CommonName == "" || len(n.CommonName) > 64 || n.Organization == "" || len(n.Organization) > 64:
		return refused("subject lacks a common name or organisation of at most 64 characters (BR 7.1.2.10.2)").WithHint("subject: {common_name, organization, country}")
	case len(n.Country) != 2 || n.Country != strings.ToUpper(n.Country):
		return refused("country %q is not an ISO 3166-1 code", n.Country).WithHint("country: CH")
	case subjects[n]:
		return refused("two authorities would have the subject %q", n.CommonName).WithHint("give each authority a name of its own; a second certificate for one authority is a cross step")
	}
	subjects[n] = true
	return nil
}

func checkNew(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind, id bulkhead.AuthorityID, kind bulkhead.AuthorityKind) error {
	if err := id.Check(); err != nil {
		return err
	}
	if _, ok := known[id]; ok {
		return refused("authority %s is there already", id).WithHint("give the new authority another id")
	}
	known[id] = kind
	return nil
}

func checkKnown(known map[bulkhead.AuthorityID]bulkhead.AuthorityKind, id bulkhead.AuthorityID) error {
	if _, ok := known[id]; !ok {
		return refused("authority %q is neither made before this step nor existing", id).WithHint("name it under existing, or make it in an earlier step")
	}
	return nil
}

func checkDays(key string, days, most int) error {
	if days < 1 || days > most {
		return refused("%s %d is not between 1 and %d", key, days, most).WithHint(key + ": days of 86,400 seconds")
	}
	return nil
}

func refused(format string, args ...any) *bulkhead.Fault {
	return bulkhead.Faultf(bulkhead.KindGate, format, args...)
}
