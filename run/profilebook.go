package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/pki/profile"
	"bulkhead/quorum"
)

// firstProfilesFile holds the profiles with which the house began, by name: what stood in the folder when the record was
// empty. Everything since takes signatures.
const firstProfilesFile = "profiles.first.json"

// profileBook is the profiles as a process believes them: those that come with the program or stood there at the first start,
// and what people signed since, one version after the other. A file of the folder is an offer; one that means what no version
// means or meant is refused by name, and so are the orders under it. The record's rows say where to look and decide nothing.
type profileBook struct {
	h *House

	mu      sync.Mutex // guards below
	history *profile.History
	files   map[string]profileFile // of the folder, by the name of the profile
	read    int64                  // number of the newest row that was looked at
	looked  time.Time
	current map[string]*profile.Profile
	refused map[string]error
}

// profileFile is a profile of the folder.
type profileFile struct {
	path string
	text string
	p    *profile.Profile
}

// profilesEvery is how long a version that came into force elsewhere may be unknown here.
const profilesEvery = time.Second

// readProfileFiles reads every profile of the data directory.
func readProfileFiles(dir string) (map[string]profileFile, error) {
	paths, err := filepath.Glob(filepath.Join(dir, profilesDir, "*.yaml"))
	if err != nil || len(paths) == 0 {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "there is no profile in %s", filepath.Join(dir, profilesDir)).WithHint("bulkhead config check")
	}
	out := map[string]profileFile{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		p, err := profile.Parse(text)
		if err != nil {
			fault := *bulkhead.AsFault(err)
			fault.Detail = filepath.Base(path) + ": " + fault.Detail
			return nil, &fault
		}
		if twice, ok := out[p.Name]; ok {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "profile %q is defined twice, in %s and %s", p.Name, filepath.Base(twice.path), filepath.Base(path)).WithHint("give one of them another name")
		}
		out[p.Name] = profileFile{path, string(text), p}
	}
	return out, nil
}

// keepFirstProfiles remembers the profiles with which the house begins. It is called while the record is empty and not again.
func keepFirstProfiles(dir string) error {
	path := filepath.Join(dir, firstProfilesFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	files, err := readProfileFiles(dir)
	if err != nil {
		return err
	}
	texts := map[string]string{}
	for name, f := range files {
		texts[name] = f.text
	}
	body, err := json.MarshalIndent(texts, "", "  ")
	if err != nil {
		return fmt.Errorf("profiles of the first start: %w", err)
	}
	return writeFile(path, append(body, '\n'), 0o644)
}

// firstProfiles are the texts with which the house began; none in a directory from before they were kept, where only what
// comes with the program is trusted.
func firstProfiles(dir string) ([]string, error) {
	body, err := os.ReadFile(filepath.Join(dir, firstProfilesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var texts map[string]string
	if err == nil {
		err = json.Unmarshal(body, &texts)
	}
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", firstProfilesFile).WithHint("put it back from a backup").WithCause(err)
	}
	out := make([]string, 0, len(texts))
	for _, t := range texts {
		out = append(out, t)
	}
	return out, nil
}

// openBook reads the folder and every version that was signed.
func (h *House) openBook(ctx context.Context) (*profileBook, error) {
	files, err := readProfileFiles(h.dir)
	if err != nil {
		return nil, err
	}
	first, err := firstProfiles(h.dir)
	if err != nil {
		return nil, err
	}
	history, err := profile.NewHistory(first...)
	if err != nil {
		return nil, err
	}
	b := &profileBook{h: h, history: history, files: files}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		return nil, err
	}
	for name, err := range b.refused {
		h.log.ErrorContext(ctx, "nothing is issued under a profile that nobody approved", slog.String("profile", name), slog.String("detail", bulkhead.AsFault(err).Detail), slog.String("next", bulkhead.AsFault(err).Hint))
	}
	return b, nil
}

// refresh is look, at most once in profilesEvery. Callers hold mu.
func (b *profileBook) refresh(ctx context.Context) error {
	if b.current != nil && b.h.now().Sub(b.looked).Abs() < profilesEvery {
		return nil
	}
	return b.look(ctx)
}

// look reads the rows that were added since. Callers hold mu.
func (b *profileBook) look(ctx context.Context) error {
	now := b.h.now()
	rows, err := b.h.store.ProfileVersions(ctx, b.read)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if err := b.learn(ctx, row); err != nil {
			return err
		}
		b.read = row.Seq
	}
	if b.looked = now; len(rows) > 0 || b.current == nil {
		b.weigh()
	}
	return nil
}

// learn takes a version in when enough people signed it and it grows out of the one before. A row that is not so is passed
// over, with an alarm; only a record that does not answer is an error.
func (b *profileBook) learn(ctx context.Context, row bulkhead.ProfileVersion) error {
	r, err := b.h.store.Request(ctx, row.Request)
	if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return err
	}
	var c profile.Change
	if err == nil {
		c, err = b.h.signedChange(ctx, r)
		if k := bulkhead.KindOf(err); err != nil && k != bulkhead.KindGate && k != bulkhead.KindMalformed {
			return err
		}
	}
	if err == nil {
		err = b.history.Append(c, r.ID)
	}
	if err != nil {
		b.h.raise(ctx, bulkhead.Alarm{Detector: quorum.Detector, Key: fmt.Sprintf("profile,%s,%d,%s", row.Name, row.Number, row.Request), Severity: bulkhead.Critical, Runbook: quorum.Runbook,
			Message: fmt.Sprintf("version %d of profile %s stands in the record and is not what people signed: nothing is issued under it; %s", row.Number, row.Name, bulkhead.AsFault(err).Detail)})
	}
	return nil
}

// signedChange judges a request to change a profile by its signatures; what its state says decides nothing.
func (h *House) signedChange(ctx context.Context, r bulkhead.ApprovalRequest) (profile.Change, error) {
	c, err := payload[profile.Change](r)
	if err != nil {
		return c, err
	}
	if r.Action != console.ActionChangeProfile {
		return c, bulkhead.Faultf(bulkhead.KindGate, "request %s is for something else", r.ID)
	}
	r.State = bulkhead.RequestExecuted // who left since was in office then
	return c, h.quorum.Signed(ctx, r)
}

// weigh works out what may be issued under. Callers hold mu.
func (b *profileBook) weigh() {
	b.current, b.refused = map[string]*profile.Profile{}, map[string]error{}
	names := b.history.Changed()
	for name := range b.files {
		names = append(names, name)
	}
	for _, name := range names {
		v, known := b.history.InForce(name)
		f, inFolder := b.files[name]
		if inFolder && !b.history.Knows(f.p) {
			b.refused[name] = refusedFile(name, f, known)
			continue
		}
		b.current[name] = v.Profile
	}
}

func refusedFile(name string, f profileFile, known bool) error {
	what := "nobody approved the new profile in " + filepath.Base(f.path)
	back := ""
	if known {
		what = filepath.Base(f.path) + " was changed and nobody approved that"
		back = "; or put back what is in force: bulkhead profile show " + name
	}
	return bulkhead.Faultf(bulkhead.KindGate, "profile %s: %s, so nothing is issued under it", name, what).
		WithHint("bulkhead profile propose " + f.path + " --reason TEXT, and the approvals that it asks for" + back)
}

// known returns every profile that is in the folder or in force: whoever works on one asks for Profile.
func (b *profileBook) known() []*profile.Profile {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := map[string]*profile.Profile{}
	for name, f := range b.files {
		all[name] = f.p
	}
	for name, p := range b.current {
		all[name] = p
	}
	out := make([]*profile.Profile, 0, len(all))
	for _, p := range all {
		out = append(out, p)
	}
	return out
}

// has reports whether there is a profile of the name, in force or not.
func (b *profileBook) has(name string) bool {
	return slices.ContainsFunc(b.known(), func(p *profile.Profile) bool { return p.Name == name })
}

// Profile returns the version of a profile that is in force. KindGate for one whose file nobody approved, KindInvalidProfile
// for one that is not there.
func (b *profileBook) Profile(ctx context.Context, name string) (*profile.Profile, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		return nil, err
	}
	if err := b.refused[name]; err != nil {
		return nil, err
	}
	if p, ok := b.current[name]; ok {
		return p, nil
	}
	names := make([]string, 0, len(b.current))
	for n := range b.current {
		names = append(names, n)
	}
	slices.Sort(names)
	return nil, bulkhead.Faultf(bulkhead.KindInvalidProfile, "profile %q does not exist", name).WithHint("use one of: " + strings.Join(names, ", "))
}

// Offered returns what is in force, by name; what was known last while the record does not answer.
func (b *profileBook) Offered(ctx context.Context) []*profile.Profile {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.refresh(ctx); err != nil {
		b.h.log.WarnContext(ctx, "versions of profiles could not be looked for", slog.String("error", err.Error()))
	}
	out := make([]*profile.Profile, 0, len(b.current))
	for _, p := range b.current {
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}

// profile finds one that is offered; nil when it is not.
func (h *House) profile(name string) *profile.Profile {
	if h.book == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	p, err := h.book.Profile(ctx, name)
	if err != nil {
		return nil
	}
	return p
}
