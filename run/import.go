package run

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/importer"
)

// Limits of an import.
const (
	maxImportFile = 256 << 20
	importBatch   = 500 // certificates a transaction
)

// ImportOptions say what `bulkhead import` was called with.
type ImportOptions struct {
	Dir       string
	Authority bulkhead.AuthorityID // name of the foreign authority here
	CA        string               // PEM file with its certificate, and those above it
	Index     string               // openssl's index.txt
	Paths     []string             // files and folders: certificates, CRLs, JSON of OpenBao and Vault
	DryRun    bool
	Now       func() time.Time // nil means time.Now
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
	Known        int                  `json:"known"`
	Sources      string               `json:"sources"` // SHA-256 over the input
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
	im := &intake{o: o, set: importer.New(ca), sum: sha256.New()}
	if err := im.read(ctx); err != nil {
		return ImportReport{}, err
	}
	cfg, err := LoadConfig(o.Dir)
	if err != nil {
		return ImportReport{}, err
	}
	if im.store, err = OpenStore(ctx, o.Dir, cfg); err != nil {
		return ImportReport{}, err
	}
	defer im.store.Close()
	return im.write(ctx, chain)
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

// intake is one import under way.
type intake struct {
	o     ImportOptions
	set   *importer.Set
	sum   hash.Hash
	store Store
}

func (im *intake) read(ctx context.Context) error {
	if im.o.Index == "" && len(im.o.Paths) == 0 {
		return bulkhead.NewFault(bulkhead.KindUsage, "nothing to import").WithHint("bulkhead import --ca CA.pem --index index.txt --name NAME newcerts/ crl.pem")
	}
	for _, p := range im.o.Paths {
		err := filepath.WalkDir(p, func(path string, e fs.DirEntry, err error) error {
			if err != nil || ctx.Err() != nil {
				if path == p || ctx.Err() != nil {
					return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithCause(err)
				}
				im.set.Problems = append(im.set.Problems, importer.Problem{File: path, Line: 1, Reason: "it cannot be read"})
				return nil
			}
			if e.IsDir() {
				return nil
			}
			im.file(path)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if im.o.Index != "" {
		body, err := os.ReadFile(im.o.Index)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "--index: %s cannot be read", im.o.Index).WithCause(err)
		}
		_, _ = im.sum.Write(body)
		im.set.Index(im.o.Index, bytes.NewReader(body))
	}
	im.set.Finish()
	sort.SliceStable(im.set.Problems, func(i, j int) bool {
		a, b := im.set.Problems[i], im.set.Problems[j]
		return a.File < b.File || a.File == b.File && a.Line < b.Line
	})
	return nil
}

func (im *intake) file(path string) {
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxImportFile) {
		err = fmt.Errorf("no plain file, or longer than %d octets", maxImportFile)
	}
	var body []byte
	if err == nil {
		body, err = os.ReadFile(path)
	}
	if err != nil {
		im.set.Problems = append(im.set.Problems, importer.Problem{File: path, Line: 1, Reason: "it cannot be read: " + err.Error()})
		return
	}
	_, _ = im.sum.Write(body)
	im.set.File(path, body)
}

// authority is the foreign authority, new or as it was imported before.
func (im *intake) authority(ctx context.Context, chain [][]byte, id string) error {
	ca, now := im.set.Authority, im.o.Now().UTC()
	all, err := im.store.Authorities(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		same := bytes.Equal(a.SPKI, ca.RawSubjectPublicKeyInfo) && bytes.Equal(a.Subject, ca.RawSubject)
		switch {
		case a.ID == im.o.Authority && same && a.State == bulkhead.AuthorityForeign:
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
	return im.store.PutAuthority(ctx, bulkhead.Authority{ID: im.o.Authority, Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityForeign, Subject: ca.RawSubject,
		SPKI: ca.RawSubjectPublicKeyInfo, Certificate: ca.Raw, Chain: chain, Shards: 1, CreatedAt: now},
		bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: now, Actor: "role:import", Authority: im.o.Authority, Ref: id, KeyHash: bulkhead.Digest(ca.RawSubjectPublicKeyInfo),
			Digest: bulkhead.Digest(ca.Raw), Detail: "imported: its key is elsewhere"})
}

func (im *intake) write(ctx context.Context, chain [][]byte) (ImportReport, error) {
	raw := make([]byte, 8)
	if _, err := rand.Read(raw); err != nil {
		return ImportReport{}, fmt.Errorf("random id: %w", err)
	}
	id := "import-" + hex.EncodeToString(raw)
	r := ImportReport{ID: id, DryRun: im.o.DryRun, Authority: im.o.Authority, Certificates: len(im.set.Certificates), Sources: hex.EncodeToString(im.sum.Sum(nil)), Problems: append([]importer.Problem{}, im.set.Problems...)}
	if err := im.authority(ctx, chain, id); err != nil {
		return r, err
	}
	for from := 0; from < len(im.set.Certificates); from += importBatch {
		page := im.set.Certificates[from:min(from+importBatch, len(im.set.Certificates))]
		items := make([]bulkhead.Imported, len(page))
		for i, c := range page {
			items[i] = im.item(c, id)
		}
		results, err := im.commit(ctx, items)
		if err != nil {
			return r, err
		}
		r.count(items, results, page)
	}
	if im.o.DryRun || r.New+r.NewlyRevoked == 0 {
		return r, nil
	}
	sum, _ := bulkhead.ParseHash(r.Sources)
	_, err := im.store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvImported, At: im.o.Now().UTC(), Actor: "role:import", Authority: im.o.Authority, Ref: id, Digest: sum, Count: int64(r.New),
		Detail: fmt.Sprintf("%d new, %d newly revoked, %d known, %d pieces of the input not taken", r.New, r.NewlyRevoked, r.Known, len(r.Problems))})
	return r, err
}

func (r *ImportReport) count(items []bulkhead.Imported, results []bulkhead.ImportResult, page []importer.Certificate) {
	for i, x := range results {
		if items[i].Certificate.State == bulkhead.Revoked {
			r.Revoked++
		}
		switch x {
		case bulkhead.ImportedNew:
			r.New++
		case bulkhead.ImportedRevoked:
			r.NewlyRevoked++
		case bulkhead.ImportedKnown:
			r.Known++
		default:
			r.Problems = append(r.Problems, importer.Problem{File: page[i].File, Line: page[i].Line, Reason: "serial " + page[i].Serial.String() + ": the record has another certificate under it"})
		}
	}
}

// commit writes a batch, or looks what writing it would do.
func (im *intake) commit(ctx context.Context, items []bulkhead.Imported) ([]bulkhead.ImportResult, error) {
	if !im.o.DryRun {
		return im.store.Import(ctx, items)
	}
	serials := make([]bulkhead.Serial, len(items))
	for i, it := range items {
		serials[i] = it.Certificate.Serial
	}
	rows, err := im.store.CertificatesBySerial(ctx, im.o.Authority, serials)
	if err != nil {
		return nil, err
	}
	have := map[bulkhead.Serial]bulkhead.Certificate{}
	for _, c := range rows {
		have[c.Serial] = c
	}
	out := make([]bulkhead.ImportResult, len(items))
	for i, it := range items {
		c, known := have[it.Certificate.Serial]
		switch {
		case !known:
			out[i] = bulkhead.ImportedNew
		case c.Fingerprint != bulkhead.Digest(it.DER):
			out[i] = bulkhead.ImportRefused
		case c.State == bulkhead.Issued && it.Certificate.State == bulkhead.Revoked:
			out[i] = bulkhead.ImportedRevoked
		default:
			out[i] = bulkhead.ImportedKnown
		}
	}
	return out, nil
}

func (im *intake) item(c importer.Certificate, id string) bulkhead.Imported {
	now := im.o.Now().UTC()
	row := bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: im.o.Authority, Serial: c.Serial}, Kind: bulkhead.LeafCertificate, State: bulkhead.Issued, Profile: "imported",
		Names: namesOf(c.Certificate), Subject: c.Subject.String(), KeyHash: bulkhead.Digest(c.RawSubjectPublicKeyInfo), Fingerprint: bulkhead.Digest(c.Raw), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(), ReservedAt: c.NotBefore.UTC()}
	if c.IsCA {
		row.Kind = bulkhead.CACertificate
	}
	it := bulkhead.Imported{DER: c.Raw, Leaf: bulkhead.Evidence{Kind: bulkhead.EvImportedCertificate, At: now, Actor: "role:import", Authority: im.o.Authority, Serial: c.Serial, Ref: id,
		KeyHash: row.KeyHash, Digest: row.Fingerprint, Detail: brief(fmt.Sprintf("%s, line %d", c.File, c.Line))}}
	if r, ok := im.set.Revoked[c.Serial]; ok {
		row.State, row.RevokedAt, row.Reason = bulkhead.Revoked, r.At, r.Reason
		it.Revocation = bulkhead.Evidence{Kind: bulkhead.EvImportedRevocation, At: now, Actor: "role:import", Authority: im.o.Authority, Serial: c.Serial, Ref: id,
			Detail: brief(fmt.Sprintf("%s at %s, says %s", r.Reason, r.At.UTC().Format(time.RFC3339), r.Source))}
	}
	it.Certificate = row
	return it
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
