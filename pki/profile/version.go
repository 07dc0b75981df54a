package profile

import (
	"encoding/json"
	"reflect"
	"strings"

	"bulkhead"
)

// Change is what people sign when a profile changes: both texts, and in words what the second lets certificates do that the
// first did not. Version ties it to its place: the same change cannot be made twice, nor in another order.
type Change struct {
	Name      string        `json:"name"`
	Version   int           `json:"version"`   // that it makes; 1 follows what the house began with
	Grants    []string      `json:"grants"`    // new power
	Withdraws []string      `json:"withdraws"` // power that is taken away
	Other     []string      `json:"other"`     // neither
	Diff      bulkhead.Hash `json:"diff_sha256"`
	Before    string        `json:"before"` // the text in force; empty for a profile that is new
	After     string        `json:"after"`
}

// NewChange compares a new text with the one in force. KindConflict when they mean the same; other faults are those of Diff.
func NewChange(version int, before, after string) (Change, error) {
	d, err := difference(before, after)
	if err != nil {
		return Change{}, err
	}
	if before != "" && len(d.Grants)+len(d.Withdraws)+len(d.Other) == 0 {
		return Change{}, bulkhead.Faultf(bulkhead.KindConflict, "profile %s means exactly this already", d.New).WithHint("bulkhead profile show " + d.New)
	}
	if before != "" && d.Old != d.New {
		return Change{}, bulkhead.Faultf(bulkhead.KindConflict, "profile %s cannot become profile %s", d.Old, d.New).WithHint("a profile of another name is a new one")
	}
	return Change{Name: d.New, Version: version, Grants: d.Grants, Withdraws: d.Withdraws, Other: d.Other, Diff: d.Hash(), Before: before, After: after}, nil
}

func difference(before, after string) (Difference, error) {
	if before != "" {
		return Diff([]byte(before), []byte(after))
	}
	p, err := parseNew([]byte(after))
	if err != nil {
		return Difference{}, err
	}
	d := Difference{New: p.Name, Grants: []string{}, Withdraws: []string{}, Other: []string{}}
	d.introduce(p)
	return d, nil
}

// Hash is over what the difference says.
func (d Difference) Hash() bulkhead.Hash {
	body, err := json.Marshal([][]string{d.Grants, d.Withdraws, d.Other})
	if err != nil {
		return bulkhead.Hash{} // strings always have a JSON form
	}
	return bulkhead.Digest(body)
}

// introduce says what a profile lets certificates do that nobody had before.
func (d *Difference) introduce(p *Profile) {
	var types, keys, usages []string
	for _, t := range p.IdentifierTypes {
		types = append(types, string(t))
	}
	for _, k := range p.Keys {
		keys = append(keys, string(k))
	}
	for _, u := range p.EKUs {
		usages = append(usages, ekuName(u))
	}
	d.grant("a new profile: certificates of kind %s that live %s", p.Kind, days(p.Validity))
	d.grant("extended key usages %s", strings.Join(usages, ", "))
	d.grant("up to %d names, of types %s", p.MaxNames, strings.Join(types, ", "))
	d.grant("keys of types %s", strings.Join(keys, ", "))
	d.flag("wildcard names: one certificate for every host below a name", false, p.Wildcard)
	d.flag("key encipherment: the key may decrypt what was sent to it", false, p.KeyEncipherment)
	d.flag("an offer in the ACME directory: every ACME account may order it", false, p.ACME)
	if p.Subject != (Subject{}) {
		d.grant("the subject %s", p.Subject)
	}
}

// People says how many have to sign the change, of a quorum that has so many: one when it grants nothing, all otherwise. It
// is worked out from the two texts; what the change says of itself decides nothing.
func (c Change) People(quorum int) int {
	if d, err := difference(c.Before, c.After); err != nil || c.Before == "" || d.GrantsPower() {
		return quorum
	}
	return 1
}

// Same reports whether two profiles mean the same, however they are written.
func Same(a, b *Profile) bool { return reflect.DeepEqual(a, b) }

// Version is a text of a profile that counts, or counted.
type Version struct {
	Number  int
	Text    string
	Profile *Profile
	Request string // by which it came into force; empty for what the house began with
}

// History is the versions of each profile, every one grown out of the one before. It is no judge of signatures: only changes
// that enough people signed may be appended.
type History struct{ lines map[string][]Version }

// NewHistory begins with the built-in profiles, and with the texts of a first start, which win.
func NewHistory(first ...string) (*History, error) {
	h := &History{lines: map[string][]Version{}}
	texts := []string{}
	for _, text := range Files() {
		texts = append(texts, string(text))
	}
	for _, text := range append(texts, first...) {
		p, err := Parse([]byte(text))
		if err != nil {
			return nil, err
		}
		h.lines[p.Name] = []Version{{Text: text, Profile: p}}
	}
	return h, nil
}

// InForce is the newest version of a profile; false when there is none.
func (h *History) InForce(name string) (Version, bool) {
	line := h.lines[name]
	if len(line) == 0 {
		return Version{}, false
	}
	return line[len(line)-1], true
}

// Line returns the versions of a profile, oldest first.
func (h *History) Line(name string) []Version { return h.lines[name] }

// Changed returns the names of the profiles that have a version beyond what the house began with.
func (h *History) Changed() []string {
	var names []string
	for name, line := range h.lines {
		if line[len(line)-1].Number > 0 {
			names = append(names, name)
		}
	}
	return names
}

// Knows reports whether a profile means what some version of it means or meant.
func (h *History) Knows(p *Profile) bool {
	for _, v := range h.lines[p.Name] {
		if Same(v.Profile, p) {
			return true
		}
	}
	return false
}

// Follows fails with KindConflict unless a change grows out of what is in force now.
func (h *History) Follows(c Change) error {
	now, _ := h.InForce(c.Name)
	if c.Version != now.Number+1 || c.Before != now.Text {
		return bulkhead.Faultf(bulkhead.KindConflict, "profile %s is at version %d by now, and the change was made for version %d", c.Name, now.Number, c.Version-1).
			WithHint("propose it anew: bulkhead profile propose FILE --reason TEXT")
	}
	return nil
}

// Append puts a signed change into force; KindConflict, and nothing done, when it does not follow.
func (h *History) Append(c Change, request string) error {
	if err := h.Follows(c); err != nil {
		return err
	}
	p, err := parseNew([]byte(c.After))
	if err != nil {
		return err
	}
	if p.Name != c.Name {
		return bulkhead.Faultf(bulkhead.KindConflict, "the change is called %s and the profile in it %s", c.Name, p.Name)
	}
	h.lines[c.Name] = append(h.lines[c.Name], Version{Number: c.Version, Text: c.After, Profile: p, Request: request})
	return nil
}
