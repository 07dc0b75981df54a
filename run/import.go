package run

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/importer"
)

// ImportOptions say what `bulkhead import` was called with.
type ImportOptions struct {
	Dir       string
	Authority bulkhead.AuthorityID // name of the foreign authority here
	CA        string               // PEM file with its certificate, and those above it
	Index     string               // openssl's index.txt
	Paths     []string             // files and folders: certificates, CRLs, JSON of OpenBao and Vault
	Sources   []ImportSource       // databases of other programs
	Delegate  string               // PEM file with an OCSP delegate that the authority signed for a key of this house: status is published from now on
	DryRun    bool
	Now       func() time.Time // nil means time.Now
}

// ImportSource is a database of another program, read by somebody who knows its format. Both methods give pieces one by one in an
// order of their own, always the same; what an error has given before counts for nothing.
type ImportSource interface {
	// Lists gives what is said of serials without their certificates: revocations.
	Lists(ctx context.Context, emit func(importer.Piece)) error
	// Certificates gives the certificates, and what is not one.
	Certificates(ctx context.Context, emit func(importer.Piece)) error
}

// ImportReport is what an import did, or would do.
type ImportReport struct {
	ID           string               `json:"id"`
	DryRun       bool                 `json:"dry_run"`
	Authority    bulkhead.AuthorityID `json:"authority"`
	Certificates int                  `json:"certificates"` // of this authority in the input
	Revoked      int                  `json:"revoked"`      // of them
	New          int                  `json:"new"`
	NewlyRevoked int                  `json:"newly_revoked"` // known before, revoked now
	Released     int                  `json:"released"`      // held here, and good again by a newer CRL
	Restated     int                  `json:"restated"`      // held here, and revoked for another reason or held anew
	Blocked      int                  `json:"blocked"`       // keys that are blocked from now on: revoked for keyCompromise
	Exposed      []ExposedKey         `json:"exposed"`       // of these, those that certificates of this house hold; nothing of it was revoked
	Known        int                  `json:"known"`
	Sources      string               `json:"sources"` // SHA-256 over the input
	Served       bool                 `json:"served"`  // status is published here for what was imported
	CRL          int64                `json:"crl"`     // number of the CRL in the input that is published here; 0 is none
	Problems     []importer.Problem   `json:"problems"`
}

// Import reads what a foreign authority left behind and puts it into the record: the authority with state foreign and its
// certificates, issued or revoked, each with its leaf. Given again with the same input it changes nothing.
func Import(ctx context.Context, o ImportOptions) (ImportReport, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := o.Authority.Check(); err != nil {
		return ImportReport{}, err
	}
	ca, chain, err := readAuthority(o.CA)
	if err != nil {
		return ImportReport{}, err
	}
	if o.Index == "" && o.Delegate == "" && len(o.Paths)+len(o.Sources) == 0 {
		return ImportReport{}, bulkhead.NewFault(bulkhead.KindUsage, "nothing to import").WithHint("bulkhead import --ca CA.pem --index index.txt --name NAME newcerts/ crl.pem")
	}
	im, err := newIntake(o, ca)
	if err != nil {
		return ImportReport{}, err
	}
	if err := im.lists(ctx); err != nil {
		return ImportReport{}, err
	}
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return ImportReport{}, err
	}
	if err := im.readDelegate(ctx, cfg); err != nil {
		return ImportReport{}, err
	}
	if im.store, err = OpenStore(ctx, o.Dir, cfg); err != nil {
		return ImportReport{}, err
	}
	defer im.store.Close()
	if s, ok := im.store.(ownedStore); ok {
		if err := s.CheckOwner(ctx, "import"); err != nil {
			return ImportReport{}, err
		}
	}
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(importGC))
	}
	return im.run(ctx, chain)
}

// ownedStore is a record in which not everybody may write everything.
type ownedStore interface {
	// CheckOwner is refused with KindForbidden unless the record was opened as its owner.
	CheckOwner(ctx context.Context, what string) error
}

func readAuthority(path string) (*x509.Certificate, [][]byte, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, bulkhead.Faultf(bulkhead.KindUsage, "--ca: %q cannot be read", path).WithCause(err).WithHint("--ca FILE: the certificate of the authority, PEM")
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(body); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, bulkhead.Faultf(bulkhead.KindMalformed, "--ca: a certificate of %s cannot be read: %s", path, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 || !all[0].IsCA {
		return nil, nil, bulkhead.Faultf(bulkhead.KindMalformed, "--ca: %s begins with no certificate of an authority", path).WithHint("PEM, the authority first, then those above it")
	}
	var chain [][]byte
	for _, c := range all[1:] {
		chain = append(chain, c.Raw)
	}
	return all[0], chain, nil
}

// authority is the foreign authority, new or as it was imported before.
func (im *intake) authority(ctx context.Context, chain [][]byte, id string) error {
	ca, now := im.set.Authority, im.o.Now().UTC()
	im.state = bulkhead.AuthorityForeign
	all, err := im.store.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		same := bytes.Equal(a.SPKI, ca.RawSubjectPublicKeyInfo) && bytes.Equal(a.Subject, ca.RawSubject)
		switch {
		case a.ID == im.o.Authority && same && a.Foreign():
			im.state = a.State
			return nil
		case a.ID == im.o.Authority:
			return bulkhead.Faultf(bulkhead.KindConflict, "%s is another authority already", a.ID).WithHint("give the imported one another name: --name")
		case same:
			return bulkhead.Faultf(bulkhead.KindConflict, "this authority is in the record as %s", a.ID).WithHint("bulkhead import --name " + string(a.ID))
		}
	}
	if im.o.DryRun {
		return nil
	}
	return im.store.PutAuthority(ctx, im.row(bulkhead.AuthorityForeign, chain),
		bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: now, Actor: "role:import", Authority: im.o.Authority, Ref: id, KeyHash: bulkhead.Digest(ca.RawSubjectPublicKeyInfo),
			Digest: bulkhead.Digest(ca.Raw), Detail: "imported: its key is elsewhere"})
}

// row is the authority's, new.
func (im *intake) row(state bulkhead.AuthorityState, chain [][]byte) bulkhead.Authority {
	ca := im.set.Authority
	return bulkhead.Authority{ID: im.o.Authority, Kind: bulkhead.IssuingAuthority, State: state, Subject: ca.RawSubject, SPKI: ca.RawSubjectPublicKeyInfo, Certificate: ca.Raw, Chain: chain, Shards: 1, CreatedAt: im.o.Now().UTC()}
}

// brief keeps a detail within the limits of a leaf.
func brief(text string) string {
	text = strings.ToValidUTF8(text, "?")
	if len(text) > 1000 {
		text = strings.ToValidUTF8(text[:1000], "")
	}
	return text
}

// namesOf are the names by which a certificate is found.
func namesOf(c *x509.Certificate) []bulkhead.Identifier {
	out := []bulkhead.Identifier{}
	for _, n := range c.DNSNames {
		out = append(out, bulkhead.Identifier{Type: bulkhead.DNS, Value: strings.ToLower(n)})
	}
	for _, n := range c.IPAddresses {
		out = append(out, bulkhead.Identifier{Type: bulkhead.IP, Value: n.String()})
	}
	for _, n := range c.EmailAddresses {
		out = append(out, bulkhead.Identifier{Type: bulkhead.Email, Value: n})
	}
	return out
}
