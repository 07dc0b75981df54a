// Package cosign brings the checkpoints of a log to outside witnesses and keeps their cosignatures (C2SP tlog-witness,
// tlog-cosignature).
//
// Purpose: whoever holds the log's key and all rows could write a second history; with k of n witnesses, each on somebody
// else's machine, he cannot without k of them noticing, and an auditor sees it in the checkpoint itself.
//
// Invariant: what is kept was verified, and the newest checkpoint that has the quorum is kept whole: body, the log's
// signature, cosignatures. A witness that says that it knows another history is an alarm, at once and each time.
//
// Refuses: redirects, answers that are late or long, addresses that the policy does not name, cosignatures that do not
// verify. It holds no key. It never delays the log: evidence is durable and signed without any witness.
package cosign

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/tlog"
)

// CheckpointName is the file in the kept folder with the newest checkpoint that has the quorum.
const CheckpointName = "checkpoint"

// Defaults.
const (
	DefaultEvery = 10 * time.Second
	DefaultLate  = 10 * time.Minute
)

// Config is what a Feeder needs. Log, Kept, Verifier, Policy, Post and Now are required.
type Config struct {
	Log      string        // directory of the evidence log
	Kept     string        // folder for cosigned checkpoints, made when absent
	Verifier note.Verifier // of the log; its name is the origin
	Policy   *tlog.Policy
	Post     Post
	Every    time.Duration // between rounds; 0 means DefaultEvery
	Late     time.Duration // how long a witness may lag behind before that is an alarm; 0 means DefaultLate
	Now      func() time.Time
	Logger   *slog.Logger // nil discards
	// Alarm is told of what is wrong, at every round while it lasts; the receiver deduplicates by detector and key. Optional.
	Alarm func(ctx context.Context, a bulkhead.Alarm)
}

// State is how far one witness is.
type State struct {
	Witness string    `json:"witness"`
	URL     string    `json:"url"`
	Size    int64     `json:"size"`             // leaves that it cosigned
	At      time.Time `json:"at,omitzero"`      // when it signed that
	Behind  time.Time `json:"behind,omitzero"`  // since when there are leaves that it has not cosigned
	Problem string    `json:"problem,omitzero"` // of the last round
}

// Feeder submits. Run does the work; States may be called from any goroutine.
type Feeder struct {
	cfg Config

	mu     sync.Mutex // guards below
	states []State    // in the order of the policy
	lines  []string   // cosignature lines over what each cosigned last
	quorum tlog.Checkpoint
	behind time.Time // since when there are leaves that no quorum covers
}

// New checks the configuration and reads what is kept.
func New(cfg Config) (*Feeder, error) {
	if cfg.Every == 0 {
		cfg.Every = DefaultEvery
	}
	if cfg.Late == 0 {
		cfg.Late = DefaultLate
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Log == "" || cfg.Kept == "" || cfg.Verifier == nil || cfg.Policy == nil || cfg.Post == nil || cfg.Now == nil {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "cosigning needs a log, a folder, a verifier, a policy, a way to witnesses and a clock")
	}
	if err := os.MkdirAll(cfg.Kept, 0o755); err != nil {
		return nil, fmt.Errorf("cosigned checkpoints: %w", err)
	}
	f := &Feeder{cfg: cfg, lines: make([]string, len(cfg.Policy.Witnesses))}
	for i, w := range cfg.Policy.Witnesses {
		f.states = append(f.states, State{Witness: w.Label, URL: w.URL})
		cp, sigs, err := f.read(w.Label+".cosigned", []*tlog.Witness{w.Key})
		if errors.Is(err, fs.ErrNotExist) || err == nil && len(sigs) == 0 {
			continue // the witness will say what it knows
		}
		if err != nil {
			return nil, err
		}
		f.states[i].Size, f.states[i].At, f.lines[i] = cp.Size, sigs[0].At, sigs[0].Line
	}
	cp, sigs, err := f.read(CheckpointName, cfg.Policy.Keys())
	switch {
	case err == nil && cfg.Policy.Satisfied(names(sigs)):
		f.quorum = cp
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return f, nil
}

func names(sigs []tlog.Cosignature) []string {
	out := make([]string, len(sigs))
	for i, s := range sigs {
		out[i] = s.Witness
	}
	return out
}

// read verifies a kept file.
func (f *Feeder) read(name string, witnesses []*tlog.Witness) (tlog.Checkpoint, []tlog.Cosignature, error) {
	signed, err := os.ReadFile(filepath.Join(f.cfg.Kept, name))
	if err != nil {
		return tlog.Checkpoint{}, nil, err
	}
	cp, sigs, err := tlog.Cosignatures(signed, f.cfg.Verifier.Name(), f.cfg.Verifier, witnesses)
	if err != nil {
		return cp, nil, bulkhead.Faultf(bulkhead.KindConflict, "the kept file %s is no cosigned checkpoint of this log", name).
			WithHint("keep it apart and start again: the witnesses say what they know").WithCause(err)
	}
	return cp, sigs, nil
}

// Run makes rounds until ctx ends.
func (f *Feeder) Run(ctx context.Context) error {
	t := time.NewTicker(f.cfg.Every)
	defer t.Stop()
	for {
		if err := f.Round(ctx); err != nil && ctx.Err() == nil {
			f.cfg.Logger.WarnContext(ctx, "checkpoints are not brought to witnesses", slog.String("error", err.Error()))
			f.alarm(ctx, "blind", bulkhead.Warning, "the log's checkpoint could not be brought to witnesses: "+bulkhead.AsFault(err).Detail)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// States says how far each witness is.
func (f *Feeder) States() []State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]State(nil), f.states...)
}

// Quorum is the newest checkpoint that has the policy's quorum; size 0 before the first.
func (f *Feeder) Quorum() tlog.Checkpoint {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.quorum
}

// Round brings the newest checkpoint to every witness that has not cosigned it, and keeps what they answer. The error is
// for what kept it from trying; what a witness answered is in States and in alarms.
func (f *Feeder) Round(ctx context.Context) error {
	signed, err := os.ReadFile(filepath.Join(f.cfg.Log, "checkpoint"))
	if err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	cp, err := tlog.OpenCheckpoint(signed, f.cfg.Verifier.Name(), f.cfg.Verifier)
	if err != nil || cp.Size == 0 {
		return err // nobody cosigns an empty log
	}
	signed = bare(signed, f.cfg.Verifier)
	answers := make([]answer, len(f.cfg.Policy.Witnesses))
	var wg sync.WaitGroup
	for i, w := range f.cfg.Policy.Witnesses {
		if w.URL == "" {
			answers[i].err = errors.New("the policy gives no address")
			continue
		}
		old := f.States()[i].Size
		if f.current(i, cp, signed) {
			answers[i].done = true
			continue
		}
		wg.Go(func() { answers[i] = f.submit(ctx, w, old, cp, signed) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return f.settle(ctx, cp, signed, answers)
}

// bare is the note with the log's own signature alone.
func bare(signed []byte, v note.Verifier) []byte {
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil || len(n.Sigs) == 0 {
		return signed
	}
	return []byte(n.Text + "\n— " + n.Sigs[0].Name + " " + n.Sigs[0].Base64 + "\n")
}

// current reports whether witness i has cosigned exactly this checkpoint.
func (f *Feeder) current(i int, cp tlog.Checkpoint, signed []byte) bool {
	f.mu.Lock()
	line := f.lines[i]
	f.mu.Unlock()
	if line == "" {
		return false
	}
	_, sigs, err := tlog.Cosignatures(append(signed[:len(signed):len(signed)], line...), cp.Origin, f.cfg.Verifier, []*tlog.Witness{f.cfg.Policy.Witnesses[i].Key})
	return err == nil && len(sigs) == 1
}

// settle keeps what was answered and raises what is wrong.
func (f *Feeder) settle(ctx context.Context, cp tlog.Checkpoint, signed []byte, answers []answer) error {
	now := f.cfg.Now().UTC()
	whole := signed[:len(signed):len(signed)]
	var have []string
	for i, a := range answers {
		w := f.cfg.Policy.Witnesses[i]
		if a.err == nil && !a.done {
			if err := f.keep(w.Label+".cosigned", append(signed[:len(signed):len(signed)], a.sig.Line...)); err != nil {
				return err
			}
		}
		f.mu.Lock()
		s := &f.states[i]
		switch {
		case a.err == nil:
			if !a.done {
				s.Size, s.At, f.lines[i] = cp.Size, a.sig.At, a.sig.Line
			}
			s.Behind, s.Problem = time.Time{}, ""
			whole = append(whole, f.lines[i]...)
			have = append(have, w.Key.Name())
		default:
			s.Problem = a.err.Error()
			if s.Behind.IsZero() {
				s.Behind = now
			}
		}
		state := *s
		f.mu.Unlock()
		f.judge(ctx, state, a, now)
	}
	return f.decide(ctx, cp, whole, have, now)
}

// judge raises D5 about one witness.
func (f *Feeder) judge(ctx context.Context, s State, a answer, now time.Time) {
	var c *conflict
	switch {
	case a.err == nil:
	case errors.As(a.err, &c):
		f.alarm(ctx, "fork,"+s.Witness, bulkhead.Critical, fmt.Sprintf("witness %s says that our evidence log is not the one that it knows: %s", s.Witness, c.text))
	case errors.Is(a.err, tlog.ErrCosignature):
		f.alarm(ctx, "invalid,"+s.Witness, bulkhead.Warning, fmt.Sprintf("witness %s answers with a signature that is not its cosignature", s.Witness))
	case now.Sub(s.Behind) >= f.cfg.Late:
		f.alarm(ctx, "missing,"+s.Witness, bulkhead.Warning, fmt.Sprintf("witness %s has cosigned nothing new since %s: %s", s.Witness, s.Behind.Format(time.RFC3339), a.err))
	}
}

// decide keeps the checkpoint when it has the quorum, and raises D5 when none has had it for too long.
func (f *Feeder) decide(ctx context.Context, cp tlog.Checkpoint, whole []byte, have []string, now time.Time) error {
	if f.cfg.Policy.Satisfied(have) {
		if err := f.keep(CheckpointName, whole); err != nil {
			return err
		}
		f.mu.Lock()
		f.quorum, f.behind = cp, time.Time{}
		f.mu.Unlock()
		return nil
	}
	f.mu.Lock()
	if f.behind.IsZero() {
		f.behind = now
	}
	behind, last := f.behind, f.quorum.Size
	f.mu.Unlock()
	if now.Sub(behind) >= f.cfg.Late {
		f.alarm(ctx, "quorum", bulkhead.Critical, fmt.Sprintf("no checkpoint has had %s cosignatures since %s; leaves from %d to %d stand on our word alone", f.cfg.Policy.Words(), behind.Format(time.RFC3339), last, cp.Size-1))
	}
	return nil
}

func (f *Feeder) alarm(ctx context.Context, key string, severity bulkhead.Severity, message string) {
	if f.cfg.Alarm == nil || ctx.Err() != nil {
		return
	}
	now := f.cfg.Now().UTC()
	f.cfg.Alarm(ctx, bulkhead.Alarm{Detector: "D5", Key: key, Severity: severity, Message: message, Runbook: "d5-witness.md", FirstAt: now, LastAt: now, Count: 1})
}

// keep replaces a kept file durably; nothing is written where it says so already.
func (f *Feeder) keep(name string, body []byte) error {
	path := filepath.Join(f.cfg.Kept, name)
	if have, err := os.ReadFile(path); err == nil && string(have) == string(body) {
		return nil
	}
	tmp, err := os.CreateTemp(f.cfg.Kept, ".new-*")
	if err != nil {
		return fmt.Errorf("cosigned checkpoint: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(body)
	if err = errors.Join(err, tmp.Chmod(0o644), tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cosigned checkpoint: %w", err)
	}
	return nil
}

// CheckPolicy is what a house needs of a policy beyond its grammar: labels that can be file names, an address for each
// witness, and a quorum that asks for something.
func CheckPolicy(p *tlog.Policy) error {
	if !p.Asks() {
		return bulkhead.NewFault(bulkhead.KindUsage, "the witness policy asks for no cosignature").WithHint("end it with a quorum line: quorum GROUP")
	}
	for _, w := range p.Witnesses {
		if w.URL == "" {
			return bulkhead.Faultf(bulkhead.KindUsage, "the witness %s has no address", w.Label).WithHint("witness NAME KEY URL")
		}
		if strings.HasPrefix(w.Label, ".") || !filepath.IsLocal(w.Label) || strings.ContainsAny(w.Label, "/\\") || len(w.Label) > 100 {
			return bulkhead.Faultf(bulkhead.KindUsage, "%.60q cannot name a witness here", w.Label).WithHint("use letters, digits and dashes")
		}
	}
	return nil
}
