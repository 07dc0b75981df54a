package tlog

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxPolicy bounds what a policy may name.
const maxPolicy = 200

// Policy says whose cosignatures make a checkpoint good: the text that Sigsum and Tessera use, so that the house and its
// auditors may keep one file. Lines are "witness NAME KEY [URL]", "group NAME any|all|K MEMBER…", "quorum NAME|none", and
// "log …", which is not looked at; "#" begins a comment.
type Policy struct {
	Witnesses []PolicyWitness
	quorum    string
	groups    map[string]policyGroup
}

// PolicyWitness is one witness of a policy.
type PolicyWitness struct {
	Label string // the policy's own word for it
	Key   *Witness
	URL   string // prefix before /add-checkpoint; "" where it is only verified
}

type policyGroup struct {
	need    int
	members []string
}

// ParsePolicy reads a policy. The error names the line.
func ParsePolicy(text string) (*Policy, error) {
	p := &Policy{groups: map[string]policyGroup{}}
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if err := p.line(f); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	if p.quorum == "" {
		return nil, errors.New("there is no quorum line")
	}
	return p, nil
}

func (p *Policy) line(f []string) error {
	if len(p.Witnesses)+len(p.groups) > maxPolicy || len(f) > maxPolicy {
		return errors.New("the policy is too long")
	}
	switch f[0] {
	case "log":
		return nil
	case "witness":
		return p.witness(f)
	case "group":
		return p.group(f)
	case "quorum":
		if len(f) != 2 || p.quorum != "" || f[1] != "none" && !p.defined(f[1]) {
			return errors.New("one quorum line is wanted, of a witness or group defined above it, or none")
		}
		p.quorum = f[1]
		return nil
	}
	return fmt.Errorf("%.40q is none of log, witness, group and quorum", f[0])
}

func (p *Policy) defined(label string) bool {
	_, ok := p.groups[label]
	return ok || slices.ContainsFunc(p.Witnesses, func(w PolicyWitness) bool { return w.Label == label })
}

func (p *Policy) fresh(label string) error {
	if label == "none" || p.defined(label) {
		return fmt.Errorf("%.40q is taken", label)
	}
	return nil
}

func (p *Policy) witness(f []string) error {
	if len(f) != 3 && len(f) != 4 {
		return errors.New("a witness is NAME KEY [URL]")
	}
	if err := p.fresh(f[1]); err != nil {
		return err
	}
	key, err := ParseWitness(f[2])
	if err != nil {
		return fmt.Errorf("witness %.40s: %w", f[1], err)
	}
	for _, w := range p.Witnesses {
		if w.Key.name == key.name || w.Key.key.Equal(key.key) {
			return fmt.Errorf("witness %.40s has the name or the key of %.40s: one witness counts once", f[1], w.Label)
		}
	}
	w := PolicyWitness{Label: f[1], Key: key}
	if len(f) == 4 {
		u, err := url.Parse(f[3])
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return fmt.Errorf("witness %.40s: %.100q is not the address of a witness", f[1], f[3])
		}
		w.URL = strings.TrimRight(f[3], "/")
	}
	p.Witnesses = append(p.Witnesses, w)
	return nil
}

func (p *Policy) group(f []string) error {
	if len(f) < 4 {
		return errors.New("a group is NAME any|all|K MEMBER…")
	}
	if err := p.fresh(f[1]); err != nil {
		return err
	}
	members := f[3:]
	need := 0
	switch f[2] {
	case "any":
		need = 1
	case "all":
		need = len(members)
	default:
		var err error
		if need, err = strconv.Atoi(f[2]); err != nil || strconv.Itoa(need) != f[2] {
			return fmt.Errorf("%.40q is none of any, all and a number", f[2])
		}
	}
	if need < 1 || need > len(members) {
		return fmt.Errorf("%d of %d members cannot be asked for", need, len(members))
	}
	for i, m := range members {
		if !p.defined(m) || slices.Contains(members[:i], m) {
			return fmt.Errorf("member %.40q is not defined above, or named twice", m)
		}
	}
	p.groups[f[1]] = policyGroup{need: need, members: members}
	return nil
}

// Keys are the witnesses' keys.
func (p *Policy) Keys() []*Witness {
	out := make([]*Witness, len(p.Witnesses))
	for i, w := range p.Witnesses {
		out[i] = w.Key
	}
	return out
}

// Asks reports whether the policy asks for any cosignature: "quorum none" does not.
func (p *Policy) Asks() bool { return p.quorum != "none" }

// Satisfied reports whether the witnesses named (by the names of their keys) make the quorum.
func (p *Policy) Satisfied(names []string) bool {
	if !p.Asks() {
		return true
	}
	return p.holds(p.quorum, names)
}

// holds goes down a tree: members are defined before the group that names them, so there is no cycle.
func (p *Policy) holds(label string, names []string) bool {
	g, ok := p.groups[label]
	if !ok {
		return slices.ContainsFunc(p.Witnesses, func(w PolicyWitness) bool { return w.Label == label && slices.Contains(names, w.Key.name) })
	}
	n := 0
	for _, m := range g.members {
		if p.holds(m, names) {
			n++
		}
	}
	return n >= g.need
}

// Words says the quorum in words: "2 of 3".
func (p *Policy) Words() string {
	if g, ok := p.groups[p.quorum]; ok {
		return fmt.Sprintf("%d of %d", g.need, len(g.members))
	}
	if !p.Asks() {
		return "none"
	}
	return "1 of 1"
}
