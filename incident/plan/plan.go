// Package plan turns the certificates of an incident into a plan of mass replacement: who is told when, when renewal
// information lets whom renew, when each old certificate is revoked, and until when all of that can still be done.
//
// Invariant: the same snapshot gives the same plan, byte for byte, whatever the order of its items. Every item is in
// exactly one wave. No slice holds more replacements, validations or notices than the capacity allows; no window begins
// before now or ends after UsableEnd, which lies well before the deadline; no date of revocation lies after ForceAt.
//
// Refuses: a clock, I/O, and a plan that hides that it cannot be met: items that fit nowhere have no window and are
// counted in Unplaced.
package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"time"

	"bulkhead"
)

// Item is one certificate of the snapshot.
type Item struct {
	bulkhead.CertificateRef
	IntentSeq  int64
	Product    string // "tls", "smime", "code-signing", "ca"
	Account    string
	Replaced   bool // a replacement exists already
	Own        bool // of the house's own estate
	Critical   bool // tagged as critical infrastructure before the day
	Held       bool // frozen by a legal hold
	Ceremony   bool // its issuer's key is offline: revoking takes a ceremony
	Revalidate bool // its validations may not be reused: the replacement costs one
	Deadline   time.Time
}

// Capacity is what the house can do in an hour.
type Capacity = bulkhead.CampaignCapacity

// Snapshot is the world that a plan is made for.
type Snapshot struct {
	Incident string
	Parent   bulkhead.Hash // of the plan that this one follows
	Now      time.Time
	FinishBy time.Time // later than the deadline only with a record of the delay; zero: the deadline
	Capacity Capacity
	Chunk    int // items of one job that tells; 0 means 500
	Together int // chunks that one job revokes; 0 means 2000
	Items    []Item
}

// Wave is the order in which old certificates are revoked: what hurts nobody first.
type Wave int

// Waves.
const (
	Replaced    Wave = 1 // replaced already: revoked first
	OwnEstate   Wave = 2 // the house's own: replaced first, before customers are told
	Subscribers Wave = 3
	Critical    Wave = 4 // told first, revoked last
	Held        Wave = 5 // frozen; reported as delayed
	Ceremony    Wave = 6 // what this house cannot revoke by itself: issued by a key that is offline or somebody else's. Its holders are told, without a date
)

// String is the word for a wave.
func (w Wave) String() string {
	return map[Wave]string{Replaced: "replaced already", OwnEstate: "own estate", Subscribers: "subscribers", Critical: "critical infrastructure", Held: "on legal hold", Ceremony: "revoked by a ceremony, or by another authority"}[w]
}

// Assignment is what the plan says of one item.
type Assignment struct {
	Index     int // into Snapshot.Items
	Ordinal   int64
	Wave      Wave
	NotifyAt  time.Time // zero: nobody is told
	Start     time.Time // window of renewal information; zero: none fits, or none is needed
	End       time.Time
	RevokeAt  time.Time // the date that its holder sees; zero for what is held or needs a ceremony
	intentSeq int64
}

// WaveSummary says how large a wave is and when it happens.
type WaveSummary struct {
	Wave        Wave      `json:"wave"`
	Name        string    `json:"name"`
	Items       int       `json:"items"`
	FirstNotice time.Time `json:"first_notice,omitzero"`
	LastNotice  time.Time `json:"last_notice,omitzero"`
	FirstWindow time.Time `json:"first_window,omitzero"`
	LastWindow  time.Time `json:"last_window,omitzero"`
	FirstRevoke time.Time `json:"first_revocation,omitzero"`
	LastRevoke  time.Time `json:"last_revocation,omitzero"`
}

// Slice is a stretch of time with what the plan puts into it.
type Slice struct {
	Start        time.Time `json:"start"`
	Replacements int       `json:"replacements"`
	Validations  int       `json:"validations"`
	Notices      int       `json:"notices"`
}

// Job is a chunk of consecutive ordinals that one step of work handles.
type Job struct {
	Kind        bulkhead.JobKind
	First, Last int64
	DueAt       time.Time
}

// Plan is immutable once made. Its JSON leaves the assignments out and has their digest instead.
type Plan struct {
	Version     int            `json:"version"`
	Incident    string         `json:"incident"`
	Parent      bulkhead.Hash  `json:"parent"`
	MadeAt      time.Time      `json:"made_at"`
	Deadline    time.Time      `json:"deadline,omitzero"` // earliest of the items that count
	FinishBy    time.Time      `json:"finish_by"`
	UsableEnd   time.Time      `json:"usable_end"` // no window ends later
	ForceAt     time.Time      `json:"force_at"`   // from here on the deadline clock revokes the rest
	NoReturn    time.Time      `json:"no_return"`  // after this moment the work no longer fits before UsableEnd
	SliceLength time.Duration  `json:"slice_length"`
	Capacity    Capacity       `json:"capacity"`
	Items       int            `json:"items"`
	ByProduct   map[string]int `json:"by_product"`
	Accounts    int            `json:"accounts"`
	Unplaced    int            `json:"unplaced"` // items for which no window was left
	Waves       []WaveSummary  `json:"waves"`
	Slices      []Slice        `json:"slices"`
	Digest      bulkhead.Hash  `json:"assignments"`

	Assignments []Assignment `json:"-"`
	Jobs        []Job        `json:"-"`
}

// Feasible reports whether everything fits before UsableEnd.
func (p *Plan) Feasible() bool { return p.Unplaced == 0 }

// Late reports whether the plan ends after the deadline: a delayed revocation from its first day.
func (p *Plan) Late() bool { return !p.Deadline.IsZero() && p.FinishBy.After(p.Deadline) }

// JSON is the document that is kept and approved.
func (p *Plan) JSON() ([]byte, error) { return json.Marshal(p) }

const (
	parts         = 48                 // slices of the time left
	noDuty        = 5 * 24 * time.Hour // time for a plan without a deadline
	defaultChunk  = 500
	shortestSlice = time.Minute
)

// Make plans. It fails with KindMalformed for an item that stands twice, KindGate when no time is left to plan for.
func Make(s Snapshot) (*Plan, []byte, bulkhead.Hash, error) {
	p := &Plan{Version: 1, Incident: s.Incident, Parent: s.Parent, MadeAt: s.Now.UTC().Truncate(time.Second), Capacity: s.Capacity, Items: len(s.Items), ByProduct: map[string]int{}}
	order, err := canonical(s.Items)
	if err != nil {
		return nil, nil, bulkhead.Hash{}, err
	}
	if err := p.times(s); err != nil {
		return nil, nil, bulkhead.Hash{}, err
	}
	b := &builder{Plan: p, items: s.Items, noticeOf: map[string]int{}}
	b.assign(order)
	b.finish(cmp.Or(s.Chunk, defaultChunk), cmp.Or(s.Together, defaultTogether))
	body, err := p.JSON()
	if err != nil {
		return nil, nil, bulkhead.Hash{}, err
	}
	return p, body, bulkhead.Digest(body), nil
}

// waveOf puts an item into its wave.
func waveOf(it Item) Wave {
	switch {
	case it.Held:
		return Held
	case it.Ceremony:
		return Ceremony
	case it.Replaced:
		return Replaced
	case it.Own:
		return OwnEstate
	case it.Critical:
		return Critical
	default:
		return Subscribers
	}
}

// canonical is the order of items that does not depend on how they were handed in.
func canonical(items []Item) ([]int, error) {
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		x, y := items[a], items[b]
		return cmp.Or(cmp.Compare(waveOf(x), waveOf(y)), cmp.Compare(x.Account, y.Account), cmp.Compare(x.Issuer, y.Issuer), x.Serial.Compare(y.Serial))
	})
	for i := 1; i < len(order); i++ {
		if items[order[i]].CertificateRef == items[order[i-1]].CertificateRef {
			return nil, bulkhead.Faultf(bulkhead.KindMalformed, "certificate %s stands twice in the snapshot", items[order[i]].CertificateRef)
		}
	}
	return order, nil
}

// times settles deadline, margins and the length of a slice.
func (p *Plan) times(s Snapshot) error {
	for _, it := range s.Items {
		if w := waveOf(it); w != Held && w != Ceremony && !it.Deadline.IsZero() && (p.Deadline.IsZero() || it.Deadline.Before(p.Deadline)) {
			p.Deadline = it.Deadline.UTC().Truncate(time.Second)
		}
	}
	p.FinishBy = s.FinishBy.UTC().Truncate(time.Second)
	if s.FinishBy.IsZero() {
		if p.FinishBy = p.Deadline; p.Deadline.IsZero() {
			p.FinishBy = p.MadeAt.Add(noDuty)
		}
	}
	left := p.FinishBy.Sub(p.MadeAt)
	if left <= 2*shortestSlice {
		return bulkhead.Faultf(bulkhead.KindGate, "the plan would have to end at %s: no time is left to replace anything", p.FinishBy.Format(time.RFC3339)).
			WithHint("revoke at once: bulkhead change preview --revoke-serials FILE; or plan for a later end with --finish-by, which opens a record of the delay")
	}
	margin := min(left/12, 2*24*time.Hour).Truncate(time.Second)
	p.ForceAt = p.FinishBy.Add(-margin)
	p.UsableEnd = p.FinishBy.Add(-2 * margin)
	p.SliceLength = max(left/parts, shortestSlice).Truncate(time.Second)
	return nil
}

// builder assigns items to slices.
type builder struct {
	*Plan
	items    []Item
	noticeOf map[string]int // account → slice of its notice
	notices  int            // slice that takes notices now
}

func (b *builder) assign(order []int) {
	n := max(int(b.UsableEnd.Sub(b.MadeAt)/b.SliceLength), 1)
	b.Slices = make([]Slice, n)
	for i := range b.Slices {
		b.Slices[i].Start = b.MadeAt.Add(time.Duration(i) * b.SliceLength)
	}
	b.Assignments = make([]Assignment, 0, len(order))
	groups := map[Wave][]int{}
	for _, i := range order {
		groups[waveOf(b.items[i])] = append(groups[waveOf(b.items[i])], i)
	}
	for _, i := range groups[Replaced] {
		b.put(Assignment{Index: i, Wave: Replaced, NotifyAt: b.MadeAt, RevokeAt: b.MadeAt})
	}
	after := b.spread(OwnEstate, groups[OwnEstate], 0, max(n/8, 1))
	b.notices = after // customers are told when the own estate is done
	// Told first, so that they have the longest time.
	b.tell(groups[Critical])
	b.tell(groups[Subscribers])
	b.tell(slices.DeleteFunc(slices.Clone(groups[Ceremony]), func(i int) bool { return !toldOnly(b.items[i]) }))
	b.spread(Critical, groups[Critical], after, n)
	b.spread(Subscribers, groups[Subscribers], after, n)
	for _, i := range groups[Held] { // whether a court lets them be told is for people
		b.put(Assignment{Index: i, Wave: Held})
	}
	for _, i := range groups[Ceremony] {
		a := Assignment{Index: i, Wave: Ceremony}
		if toldOnly(b.items[i]) {
			a.NotifyAt = b.noticeAt(b.items[i].Account)
		}
		b.put(a)
	}
}

// toldOnly reports whether somebody is told of an item that needs a ceremony: the holder who has not replaced it yet.
func toldOnly(it Item) bool { return it.Account != "" && !it.Own && !it.Replaced }

// noticeAt is when an account is told.
func (b *builder) noticeAt(account string) time.Time {
	if n := b.noticeOf[account]; n < len(b.Slices) {
		return b.Slices[n].Start
	}
	return b.ForceAt // nobody can be told in time; the clock does not wait
}

func (b *builder) put(a Assignment) {
	it := b.items[a.Index]
	a.intentSeq = it.IntentSeq
	b.ByProduct[it.Product]++
	b.Assignments = append(b.Assignments, a)
}

// perSlice is what an hourly capacity allows in a slice. What is lost by rounding in one comes back in a later one.
func (p *Plan) perSlice(hourly, slice int) int {
	if hourly <= 0 {
		return math.MaxInt
	}
	upTo := func(n int) int64 { return int64(hourly) * int64(n) * int64(p.SliceLength/time.Second) / 3600 }
	return int(upTo(slice+1) - upTo(slice))
}

// tell gives each account the slice of its notice, in the order of the items.
func (b *builder) tell(group []int) {
	for _, i := range group {
		acct := b.items[i].Account
		if _, told := b.noticeOf[acct]; told {
			continue
		}
		for b.notices < len(b.Slices) && b.Slices[b.notices].Notices >= b.perSlice(b.Capacity.Notices, b.notices) {
			b.notices++
		}
		b.noticeOf[acct] = b.notices
		if b.notices < len(b.Slices) {
			b.Slices[b.notices].Notices++
		}
	}
}

// spread gives the items of a group windows between two slices, as evenly as capacity allows, and returns the slice after
// the last one used.
func (b *builder) spread(w Wave, group []int, from, to int) int {
	if len(group) == 0 {
		return from
	}
	used := from
	even := (len(group) + to - from - 1) / max(to-from, 1)
	placed := make([]int, len(b.Slices)) // of this group
	cursor := from
	type placedItem struct{ index, slice int }
	var out []placedItem
	for _, i := range group {
		first := from
		if w != OwnEstate {
			first = b.noticeOf[b.items[i].Account]
		}
		slice := b.find(b.items[i], max(first, cursor), to, even, placed)
		if slice < 0 { // the even share is used up where it may go: wherever there is room
			slice = b.find(b.items[i], first, len(b.Slices), len(group), placed)
		}
		out = append(out, placedItem{i, slice})
		if slice < 0 {
			continue
		}
		placed[slice]++
		b.Slices[slice].Replacements++
		if b.items[i].Revalidate {
			b.Slices[slice].Validations++
		}
		for cursor < to && placed[cursor] >= even {
			cursor++
		}
		used = max(used, slice+1)
	}
	slices.SortStableFunc(out, func(x, y placedItem) int { return cmp.Compare(uint(x.slice), uint(y.slice)) }) // unplaced ones last
	for _, x := range out {
		b.put(b.window(w, x.index, x.slice))
	}
	return min(used, len(b.Slices)-1)
}

// find is the first slice in [from, to) that has room for the item, -1 when there is none.
func (b *builder) find(it Item, from, to, share int, placed []int) int {
	for s := from; s < to && s < len(b.Slices); s++ {
		if placed[s] < share && b.Slices[s].Replacements < b.perSlice(b.Capacity.Signatures, s) &&
			(!it.Revalidate || b.Slices[s].Validations < b.perSlice(b.Capacity.Validations, s)) {
			return s
		}
	}
	return -1
}

func (b *builder) window(w Wave, index, slice int) Assignment {
	a := Assignment{Index: index, Wave: w, NotifyAt: b.MadeAt, RevokeAt: b.ForceAt}
	if w != OwnEstate {
		a.NotifyAt = b.noticeAt(b.items[index].Account)
	}
	if slice < 0 {
		b.Unplaced++
		return a
	}
	a.Start = b.Slices[slice].Start
	a.End = a.Start.Add(b.SliceLength)
	if grace := a.End.Add(b.FinishBy.Sub(b.ForceAt)); w != Critical && grace.Before(b.ForceAt) {
		a.RevokeAt = grace
	}
	return a
}

// finish numbers the assignments, sums up waves, cuts jobs and takes the digest.
func (b *builder) finish(chunk, together int) {
	// In the order of revocation: the waves, and in each the slices.
	slices.SortStableFunc(b.Assignments, func(x, y Assignment) int { return cmp.Compare(x.Wave, y.Wave) })
	h := sha256.New()
	var waves = map[Wave]*WaveSummary{}
	for i := range b.Assignments {
		a := &b.Assignments[i]
		a.Ordinal = int64(i + 1)
		h.Write(encode(b.items[a.Index].CertificateRef, *a))
		w := waves[a.Wave]
		if w == nil {
			w = &WaveSummary{Wave: a.Wave, Name: a.Wave.String()}
			waves[a.Wave] = w
		}
		w.add(*a)
	}
	b.Digest = bulkhead.Hash(h.Sum(nil))
	for w := Replaced; w <= Ceremony; w++ {
		if waves[w] != nil {
			b.Waves = append(b.Waves, *waves[w])
		}
	}
	b.Accounts = len(b.noticeOf)
	replacements, validations := 0, 0
	for _, it := range b.items {
		if w := waveOf(it); w == OwnEstate || w == Subscribers || w == Critical {
			replacements++
			if it.Revalidate {
				validations++
			}
		}
	}
	b.NoReturn = b.UsableEnd.Add(-Needed(b.Capacity, replacements, validations, b.Accounts))
	b.Jobs = jobs(b.Assignments, int64(chunk), int64(together))
}

// Needed is how long the work takes at full capacity.
func Needed(c Capacity, replacements, validations, notices int) time.Duration {
	var longest time.Duration
	for _, x := range []struct{ n, hourly int }{{replacements, c.Signatures}, {validations, c.Validations}, {notices, c.Notices}} {
		if x.hourly > 0 {
			longest = max(longest, time.Duration(float64(x.n)/float64(x.hourly)*float64(time.Hour)))
		}
	}
	return longest.Round(time.Second)
}

func (w *WaveSummary) add(a Assignment) {
	w.Items++
	for _, x := range []struct {
		t           time.Time
		first, last *time.Time
	}{{a.NotifyAt, &w.FirstNotice, &w.LastNotice}, {a.Start, &w.FirstWindow, nil}, {a.End, nil, &w.LastWindow}, {a.RevokeAt, &w.FirstRevoke, &w.LastRevoke}} {
		if x.t.IsZero() {
			continue
		}
		if x.first != nil && (x.first.IsZero() || x.t.Before(*x.first)) {
			*x.first = x.t
		}
		if x.last != nil && x.t.After(*x.last) {
			*x.last = x.t
		}
	}
}

// encode is what the digest of the assignments is over, for one of them.
func encode(ref bulkhead.CertificateRef, a Assignment) []byte {
	out := append([]byte(ref.String()), '\n', byte(a.Wave))
	for _, t := range []time.Time{a.NotifyAt, a.Start, a.End, a.RevokeAt} {
		n := int64(0)
		if !t.IsZero() {
			n = t.Unix()
		}
		out = binary.BigEndian.AppendUint64(out, uint64(n))
	}
	return out
}

// defaultTogether is how many chunks are revoked by one job. A change signs a head and the whole CRLs of its issuers however few
// certificates it has, and goes through the table of certificates, in which those of a chunk lie far apart: ten changes of a
// hundred thousand write that table ten times. With the default chunk a change has up to a million.
const defaultTogether = 2000

// jobs cuts the assignments into chunks of work. A chunk is due with the first of its items, and again for those that are
// due later: a chunk for each slice would sign heads and CRLs for a handful of certificates.
func jobs(all []Assignment, chunk, together int64) []Job {
	var out []Job
	for _, kind := range []bulkhead.JobKind{bulkhead.JobNotify, bulkhead.JobRevoke} {
		var open *Job
		if kind == bulkhead.JobRevoke {
			chunk *= together
		}
		for _, a := range all {
			due := a.NotifyAt
			if kind == bulkhead.JobRevoke {
				due = a.RevokeAt
			}
			if due.IsZero() { // held, or needs a ceremony
				open = nil
				continue
			}
			if open == nil || open.Last-open.First+1 >= chunk {
				out = append(out, Job{Kind: kind, First: a.Ordinal, DueAt: due})
				open = &out[len(out)-1]
			}
			open.Last = a.Ordinal
			if due.Before(open.DueAt) {
				open.DueAt = due
			}
		}
	}
	return out
}
