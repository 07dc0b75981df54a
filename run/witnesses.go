package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/evidence/cosign"
	"bulkhead/pki/tlog"
	"bulkhead/proof"
)

// witnessedDir holds cosigned checkpoints, inside the data directory.
const witnessedDir = "witnessed"

// Witnesses are outside witnesses that cosign the checkpoints of the evidence log (C2SP tlog-witness).
type Witnesses struct {
	// Policy is a file, relative to the data directory, that names the witnesses and how many of them are needed: lines
	// "witness NAME KEY URL", "group NAME K MEMBER…", "quorum NAME". Auditors get the same file. Empty asks nobody.
	Policy string `yaml:"policy,omitempty"`
	// Every is the time between two rounds; 0 means 10s.
	Every Duration `yaml:"every,omitempty"`
	// Late is how long a witness or the quorum may lag behind before that is alarm D5; 0 means 10m.
	Late Duration `yaml:"late,omitempty"`
	// AllowPrivate lets witnesses be on loopback and private addresses and speak plain http.
	AllowPrivate bool `yaml:"allow_private,omitempty"`
}

func (w Witnesses) check() error {
	if d := time.Duration(w.Every); d != 0 && (d < 100*time.Millisecond || d > time.Hour) {
		return wrong("witnesses.every", "%s is not within 100ms and 1h", d)
	}
	if d := time.Duration(w.Late); d != 0 && (d < time.Second || d > 24*time.Hour) {
		return wrong("witnesses.late", "%s is not within 1s and 24h", d)
	}
	return nil
}

// policy reads the policy; nil where none is configured.
func (c Config) policy(dir string) (*tlog.Policy, error) {
	if c.Witnesses.Policy == "" {
		return nil, nil
	}
	text, err := os.ReadFile(inDir(dir, c.Witnesses.Policy))
	if err != nil {
		return nil, wrong("witnesses.policy", "%s cannot be read: %s", c.Witnesses.Policy, err)
	}
	p, err := tlog.ParsePolicy(string(text))
	if err != nil {
		return nil, wrong("witnesses.policy", "%s: %s", c.Witnesses.Policy, err)
	}
	if err := cosign.CheckPolicy(p); err != nil {
		return nil, wrong("witnesses.policy", "%s: %s", c.Witnesses.Policy, bulkhead.AsFault(err).Detail)
	}
	return p, nil
}

// openWitnesses makes what brings checkpoints to witnesses, where the evidence role is and a policy is set.
func (h *House) openWitnesses(context.Context, seed) error {
	if h.evidence == nil {
		return nil
	}
	p, err := h.cfg.policy(h.dir)
	if p == nil || err != nil {
		return err
	}
	h.witnesses, err = cosign.New(cosign.Config{Log: filepath.Join(h.dir, evidenceDir), Kept: filepath.Join(h.dir, witnessedDir), Verifier: h.evidence.Verifier(), Policy: p,
		Post: cosign.HTTP(h.cfg.Witnesses.AllowPrivate), Every: time.Duration(h.cfg.Witnesses.Every), Late: time.Duration(h.cfg.Witnesses.Late), Now: h.now,
		Logger: h.log.With(slog.String("role", "evidence")), Alarm: h.watch.Raise})
	return err
}

// checkpointPath is where the newest checkpoint is served: the one with the quorum of witnesses, where there are witnesses.
const checkpointPath = "/evidence/checkpoint"

// serveCheckpoint hands out the cosigned checkpoint, for whoever keeps copies. It says nothing of any leaf.
func (h *House) serveCheckpoint(w http.ResponseWriter, _ *http.Request) {
	path := filepath.Join(h.dir, evidenceDir, "checkpoint")
	if h.witnesses != nil {
		path = filepath.Join(h.dir, witnessedDir, cosign.CheckpointName)
	}
	body, err := os.ReadFile(path)
	if err != nil {
		http.Error(w, "there is no cosigned checkpoint yet", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(body)
}

func (h *House) diagnoseWitnesses(add addFinding) {
	switch {
	case h.evidence == nil:
		return
	case h.witnesses == nil:
		add("witnesses", levelFinding, "set witnesses.policy in "+ConfigFile+", see doc/witnesses.md", "nobody outside cosigns the evidence log: that it was not rewritten stands on this house's word")
		return
	}
	bad := 0
	for _, s := range h.witnesses.States() {
		if s.Problem != "" {
			bad++
			add("witnesses", levelFinding, "doc/runbooks/d5-witness.md", "witness %s has cosigned %d leaves: %s", s.Witness, s.Size, s.Problem)
		}
	}
	if cp := h.witnesses.Quorum(); bad == 0 {
		add("witnesses", levelOK, "", "%d leaves are cosigned by the quorum", cp.Size)
	}
}

var (
	descWitnessed = prometheus.NewDesc("bulkhead_evidence_witnessed_leaves", "Leaves under the newest checkpoint that has the quorum of witnesses.", nil, nil)
	descWitness   = prometheus.NewDesc("bulkhead_witness_leaves", "Leaves that a witness has cosigned.", []string{"witness"}, nil)
)

// witnessMetrics reads how far witnesses are when it is scraped.
type witnessMetrics struct{ f *cosign.Feeder }

// Describe implements prometheus.Collector.
func (*witnessMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- descWitnessed; ch <- descWitness }

// Collect implements prometheus.Collector.
func (m *witnessMetrics) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(descWitnessed, prometheus.GaugeValue, float64(m.f.Quorum().Size))
	for _, s := range m.f.States() {
		ch <- prometheus.MustNewConstMetric(descWitness, prometheus.GaugeValue, float64(s.Size), s.Witness)
	}
}

// proveWitnesses holds the kept cosigned checkpoint against the log: it must have the quorum, and the log must begin with it.
func proveWitnesses(dir string, cfg Config, v note.Verifier, out *proof.Outside) error {
	p, err := cfg.policy(dir)
	if p == nil || err != nil {
		return err
	}
	out.Witnessed = &proof.Witnessed{Quorum: p.Words(), By: []proof.WitnessedBy{}}
	signed, err := os.ReadFile(filepath.Join(dir, witnessedDir, cosign.CheckpointName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // said in the report: no leaf is witnessed
	}
	if err != nil {
		return fmt.Errorf("cosigned checkpoint: %w", err)
	}
	fault := func(format string, args ...any) {
		out.LogFaults = append(out.LogFaults, proof.Finding{Rule: "evidence/witnessed", Message: fmt.Sprintf(format, args...)})
	}
	cp, sigs, err := tlog.Cosignatures(signed, v.Name(), v, p.Keys())
	if err != nil {
		fault("the kept cosigned checkpoint does not verify: %s", err)
		return nil
	}
	var names []string
	for _, s := range sigs {
		names = append(names, s.Witness)
		out.Witnessed.By = append(out.Witnessed.By, proof.WitnessedBy{Witness: s.Witness, At: s.At})
	}
	if !p.Satisfied(names) {
		fault("the kept checkpoint of %d leaves has %d cosignatures, which are not %s", cp.Size, len(sigs), p.Words())
		return nil
	}
	now := tlog.Checkpoint{Origin: out.Log.Origin, Size: out.Log.Size, Root: out.Log.Root}
	read := func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(dir, evidenceDir, path)) }
	if now.Size < cp.Size { // the cosigned one was published while the log was read, or the log went back
		if now, err = newerCheckpoint(dir, v, cp.Size); err != nil {
			fault("witnesses cosigned %d leaves, the published checkpoint has %d: the log went back", cp.Size, out.Log.Size)
			return nil
		}
	}
	if err := tlog.VerifyConsistency(read, cp, now); err != nil {
		fault("the log does not begin with the %d leaves that %d witnesses cosigned: %s", cp.Size, len(sigs), err)
		return nil
	}
	out.Witnessed.Size, out.Witnessed.Root = cp.Size, cp.Root
	return nil
}

// newerCheckpoint reads the published checkpoint again and wants size leaves of it.
func newerCheckpoint(dir string, v note.Verifier, size int64) (tlog.Checkpoint, error) {
	signed, err := os.ReadFile(filepath.Join(dir, evidenceDir, "checkpoint"))
	if err != nil {
		return tlog.Checkpoint{}, err
	}
	cp, err := tlog.OpenCheckpoint(signed, v.Name(), v)
	if err == nil && cp.Size < size {
		err = errors.New("the log went back")
	}
	return cp, err
}
