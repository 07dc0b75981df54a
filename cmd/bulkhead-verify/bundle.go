package main

import (
	"archive/tar"
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// Bounds of a bundle, which comes from a stranger too.
const (
	maxBundleFiles  = 4 << 20
	maxBundleObject = 1 << 30
)

// bundleDoc is the answer of the bundle command.
type bundleDoc struct {
	OK           bool          `json:"ok"`
	Checkpoint   checkpointDoc `json:"checkpoint"`
	Leaves       int64         `json:"leaves"`
	Certificates int64         `json:"certificates"`
	Imported     int64         `json:"imported"` // of other authorities, looked at and not signed here
	Pruned       int64         `json:"pruned"`
	Transcripts  int           `json:"transcripts"`
	Keys         []keyDoc      `json:"keys"`
	ProofOK      bool          `json:"proof_ok"`
	Uncovered    int64         `json:"uncovered"` // leaves of the proof that the checkpoint does not cover
	Witnessed    *witnessDoc   `json:"witnessed,omitempty"`
	Findings     []finding     `json:"findings"`
	Omitted      int           `json:"findings_omitted"`
}

// proofDoc is what is believed of proof.json once it was recounted.
type proofDoc struct {
	OK         bool          `json:"ok"`
	Checkpoint checkpointDoc `json:"checkpoint"`
	Rows       int64         `json:"rows"`
	Keys       []struct {
		Key       bulkhead.Hash `json:"key"`
		Announced int64         `json:"announced"`
		Made      int64         `json:"made"`
	} `json:"keys"`
	Findings []struct {
		Rule    string `json:"rule"`
		Message string `json:"message"`
	} `json:"findings"`
}

func (t *tool) bundleCommand() *cobra.Command {
	var extract, policy string
	c := &cobra.Command{
		Use:   "bundle FILE",
		Short: "verify an auditor's bundle (bulkhead audit bundle) on a host that has nothing else",
		Long: "Proves every leaf in FILE against its checkpoint, counts each key's signatures again and compares them with the proof in FILE,\n" +
			"holds every certificate's digest against its leaf and every leaf against the list, and the transcripts against theirs.\n" +
			"--key is the log's verifier key, got from somewhere else than the bundle.",
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return t.bundle(args[0], extract, policy) },
	}
	c.Flags().StringVar(&policy, "policy", "", "also demand the cosignatures of outside witnesses that this file asks for (see the command witness)")
	c.Flags().StringVar(&extract, "extract", "", "also unpack the bundle into this folder, which must not exist")
	return c
}

// archive is a bundle on disk: where each object lies in the file.
type archive struct {
	file  *os.File
	place map[string][2]int64 // offset and length
}

func openArchive(path string) (*archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "cannot read the bundle: %v", err).WithHint("bulkhead-verify bundle FILE --key KEY")
	}
	a := &archive{file: f, place: map[string][2]int64{}}
	malformed := bulkhead.Faultf(bulkhead.KindMalformed, "%s is no bundle", path).WithHint("ask the operator for another: bulkhead audit bundle --out FILE")
	r := tar.NewReader(f)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			f.Close()
			return nil, malformed.WithCause(err)
		}
		at, err := f.Seek(0, io.SeekCurrent)
		_, twice := a.place[h.Name]
		if err != nil || twice || h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) || h.Size > maxBundleObject || len(a.place) >= maxBundleFiles {
			f.Close()
			return nil, malformed
		}
		a.place[h.Name] = [2]int64{at, h.Size}
	}
}

// read is a tile reader.
func (a *archive) read(name string) ([]byte, error) {
	p, ok := a.place[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	body := make([]byte, p[1])
	if _, err := a.file.ReadAt(body, p[0]); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return body, nil
}

func (a *archive) extract(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "the folder %s cannot be made", dir).WithHint("name one that does not exist").WithCause(err)
	}
	for name := range a.place {
		body, err := a.read(name)
		if err == nil {
			err = os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), body, 0o644)
		}
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindUnavailable, "cannot unpack: %v", err).WithHint("look for room in the folder")
		}
	}
	return nil
}

func (t *tool) bundle(path, extract, policy string) error {
	if t.key == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "--key is required").WithHint("bulkhead-verify bundle FILE --key KEY; the key comes from the operator, not from the bundle")
	}
	v, err := t.verifier()
	if err != nil {
		return err
	}
	var p *tlog.Policy
	if policy != "" {
		if p, err = readPolicy(policy); err != nil {
			return err
		}
	}
	a, err := openArchive(path)
	if err != nil {
		return err
	}
	defer a.file.Close()
	if extract != "" {
		if err := a.extract(extract); err != nil {
			return err
		}
	}
	c := &bundleCheck{a: a, policy: p, ledger: tlog.NewLedger(), outcomes: map[int64]bundleOutcome{}, uses: map[bulkhead.Hash][2]int64{}, transcripts: map[bulkhead.Hash]bool{}}
	if err := c.run(v); err != nil {
		return err
	}
	c.doc.Keys = []keyDoc{}
	counted := logDoc{Kinds: map[string]int64{}, Keys: []keyDoc{}}
	counted.count(c.ledger)
	c.doc.Keys, c.doc.Findings = counted.Keys, list(c.found)
	c.doc.OK = len(c.found) == 0
	return t.finish(c.doc, c.text(), c.found)
}

// bundleOutcome is a certificate by its leaf.
type bundleOutcome struct {
	ref    bulkhead.CertificateRef
	digest bulkhead.Hash
	listed bool

	imported bool
}

type bundleCheck struct {
	a           *archive
	policy      *tlog.Policy // nil asks for no witness
	doc         bundleDoc
	found       []finding
	proof       proofDoc
	ledger      *tlog.Ledger
	outcomes    map[int64]bundleOutcome
	uses        map[bulkhead.Hash][2]int64 // announced and made, within the proof's rows
	transcripts map[bulkhead.Hash]bool     // named by leaves about authorities
}

func (c *bundleCheck) find(rule string, index int64, format string, args ...any) {
	if len(c.found) >= maxFindings {
		c.doc.Omitted++
		return
	}
	f := finding{Rule: rule, Message: fmt.Sprintf(format, args...)}
	if index >= 0 {
		f.Index = &index
	}
	c.found = append(c.found, f)
}

func (c *bundleCheck) run(v note.Verifier) error {
	signed, err := c.a.read("checkpoint")
	if err != nil {
		c.find("checkpoint", -1, "%v", err)
		return nil
	}
	cp, err := tlog.OpenCheckpoint(signed, v.Name(), v)
	if err != nil {
		c.find("checkpoint", -1, "%v", err)
		return nil
	}
	c.doc.Checkpoint = docOf(cp)
	body, err := c.a.read("proof.json")
	if err == nil {
		err = json.Unmarshal(body, &c.proof)
	}
	if err != nil {
		c.find("proof", -1, "the bundle holds no proof that can be read: %v", err)
		return nil
	}
	c.doc.ProofOK, c.doc.Uncovered = c.proof.OK, max(0, c.proof.Rows-cp.Size)
	if err := tlog.Walk(c.a.read, cp, 0, c.leaf); err != nil {
		more, err := verdict(err)
		c.found = append(c.found, more...)
		return err
	}
	if err := c.same(cp); err != nil {
		return err
	}
	if err := c.witnesses(v, cp, signed); err != nil {
		return err
	}
	c.counts()
	c.certificates()
	c.ceremonies()
	return nil
}

func (c *bundleCheck) leaf(index int64, leaf []byte) error {
	c.doc.Leaves++
	e, err := tlog.Parse(leaf)
	if err != nil {
		c.find("leaf-malformed", index, "leaf %d: %v", index, err)
		return nil
	}
	for _, v := range c.ledger.Add(index, e) {
		c.find(v.Rule, index, "leaf %d: %s", index, v.Message)
	}
	if index >= c.proof.Rows {
		return nil
	}
	if announced, made := tlog.Uses(e); announced+made > 0 && !e.Signer.IsZero() {
		was := c.uses[e.Signer]
		c.uses[e.Signer] = [2]int64{was[0] + announced, was[1] + made}
	}
	switch e.Kind {
	case bulkhead.EvCertificateOutcome, bulkhead.EvImportedCertificate: // the latter is intent and outcome in one, of somebody else's key
		c.outcomes[index] = bundleOutcome{imported: e.Kind == bulkhead.EvImportedCertificate, ref: bulkhead.CertificateRef{Issuer: e.Authority, Serial: e.Serial}, digest: e.Digest}
	case bulkhead.EvAuthority:
		if !e.Link.IsZero() {
			c.transcripts[e.Link] = true
		}
	}
	return nil
}

// same proves that the log, when the proof was made, is the beginning of this one.
func (c *bundleCheck) same(cp tlog.Checkpoint) error {
	p := c.proof.Checkpoint
	err := tlog.VerifyConsistency(c.a.read, tlog.Checkpoint{Origin: p.Origin, Size: p.Size, Root: p.Root}, cp)
	if err == nil {
		return nil
	}
	more, err := verdict(err)
	c.found = append(c.found, more...)
	return err
}

// witnesses demands the quorum on the checkpoint, or on an older one that the bundle brings.
func (c *bundleCheck) witnesses(v note.Verifier, cp tlog.Checkpoint, signed []byte) error {
	if c.policy == nil {
		return nil
	}
	candidates := [][]byte{signed}
	if older, err := c.a.read("witnessed"); err == nil {
		candidates = append(candidates, older)
	}
	doc := witnessDoc{Quorum: c.policy.Words(), Checkpoint: docOf(cp)}
	more, err := doc.judge(c.a.read, c.policy, v, cp, candidates)
	c.found = append(c.found, more...)
	if doc.OK = len(more) == 0 && err == nil; doc.OK {
		c.doc.Witnessed = &doc
		doc.Findings = []finding{}
	}
	return err
}

// counts holds the numbers of the proof against those of the leaves, and repeats what the proof itself found.
func (c *bundleCheck) counts() {
	for _, f := range c.proof.Findings {
		c.find("proof/"+f.Rule, -1, "the house's own proof says: %s", f.Message)
	}
	if c.proof.OK != (len(c.proof.Findings) == 0) {
		c.find("proof", -1, "the proof says ok: %v, and has %d findings", c.proof.OK, len(c.proof.Findings))
	}
	if c.doc.Uncovered > 0 {
		c.find("uncovered", -1, "the proof speaks of %d rows that the checkpoint does not cover; nobody can check them: ask for a bundle of the running house", c.doc.Uncovered)
		return
	}
	claimed := map[bulkhead.Hash]bool{}
	for _, k := range c.proof.Keys {
		claimed[k.Key] = true
		if got := c.uses[k.Key]; got != [2]int64{k.Announced, k.Made} {
			c.find("count", -1, "the proof says that key %s made %d signatures (%d announced); the leaves say %d (%d announced)", k.Key, k.Made, k.Announced, got[1], got[0])
		}
	}
	for key, n := range c.uses {
		if !claimed[key] {
			c.find("count", -1, "the proof does not name key %s, which made %d signatures by the leaves", key, n[1])
		}
	}
}

// certificates holds the list against the leaves, in both directions.
func (c *bundleCheck) certificates() {
	body, err := c.a.read("certificates.txt")
	if err != nil {
		c.find("certificates", -1, "%v", err)
		return
	}
	pruned := map[bulkhead.CertificateRef]bool{}
	lines := bufio.NewScanner(strings.NewReader(string(body)))
	for n := 1; lines.Scan(); n++ {
		part := strings.Split(lines.Text(), ",")
		if len(part) != 5 {
			c.find("certificates", -1, "line %d of certificates.txt is none", n)
			continue
		}
		serial, err := bulkhead.ParseSerial(part[1])
		ref := bulkhead.CertificateRef{Issuer: bulkhead.AuthorityID(part[0]), Serial: serial}
		if part[2] == "-" && part[3] == "pruned" && err == nil {
			pruned[ref] = true
			continue
		}
		index, ierr := strconv.ParseInt(part[2], 10, 64)
		was, ok := c.outcomes[index]
		switch {
		case err != nil || ierr != nil || !ok || was.ref != ref:
			c.find("certificate-not-in-log", -1, "line %d: certificate %s has no outcome at leaf %s", n, ref, part[2])
			continue
		case was.listed:
			c.find("certificate-twice", index, "line %d: leaf %d is listed twice", n, index)
		case part[3] != was.digest.String() && part[4] != was.digest.String():
			c.find("certificate-differs", index, "line %d: certificate %s has SHA-256 %s, its leaf says %s", n, ref, part[3], was.digest)
		}
		was.listed = true
		c.outcomes[index] = was
		if was.imported {
			c.doc.Imported++
			continue
		}
		c.doc.Certificates++
	}
	for index, was := range c.outcomes {
		if pruned[was.ref] {
			c.doc.Pruned++
		} else if !was.listed {
			c.find("certificate-not-listed", index, "leaf %d: certificate %s was signed and the record does not list it", index, was.ref)
		}
	}
}

// ceremonies holds each transcript against the leaves that name it.
func (c *bundleCheck) ceremonies() {
	have := map[bulkhead.Hash]bool{}
	for name := range c.a.place {
		if !strings.HasPrefix(name, "transcripts/") {
			continue
		}
		body, err := c.a.read(name)
		if err != nil {
			c.find("transcript", -1, "%v", err)
			continue
		}
		c.doc.Transcripts++
		have[bulkhead.Digest(body)] = true
	}
	for h := range c.transcripts {
		if !have[h] {
			c.find("transcript", -1, "authorities were made in a ceremony whose transcript has SHA-256 %s, and the bundle does not hold it", h)
		}
	}
}

func (c *bundleCheck) text() string {
	if len(c.found) > 0 {
		return fmt.Sprintf("NOT verified: %d findings in a bundle of %d leaves\n", len(c.found)+c.doc.Omitted, c.doc.Leaves)
	}
	var signatures int64
	for _, k := range c.doc.Keys {
		signatures += k.Signatures
	}
	witnessed := ""
	if c.doc.Witnessed != nil {
		witnessed = c.doc.Witnessed.text()
	}
	imported := ""
	if c.doc.Imported > 0 {
		imported = fmt.Sprintf("%d certificates of other authorities were imported, each with its leaf\n", c.doc.Imported)
	}
	return fmt.Sprintf("%s%d leaves are proved against the checkpoint of %s with root %s\n%d keys made %d signatures, as the proof says\n%d certificates are in the log, %d more went with age; none is in one place only\n%s%d transcripts are those that the log names\nverified\n",
		witnessed, c.doc.Leaves, c.doc.Checkpoint.Origin, c.doc.Checkpoint.Root, len(c.doc.Keys), signatures, c.doc.Certificates, c.doc.Pruned, imported, c.doc.Transcripts)
}
