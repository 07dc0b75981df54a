package incident

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"

	"gopkg.in/yaml.v3"

	"bulkhead"
)

//go:embed playbooks/*.yaml
var playbooks embed.FS

// Playbook is what to do on one kind of day.
type Playbook = bulkhead.Playbook

// HousePlaybooks reads the playbooks that come with the program.
func HousePlaybooks() ([]Playbook, error) {
	files, err := fs.Glob(playbooks, "playbooks/*.yaml")
	if err != nil {
		return nil, err
	}
	var out []Playbook
	for _, f := range files {
		text, err := playbooks.ReadFile(f)
		if err != nil {
			return nil, err
		}
		b, err := ParsePlaybook(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		out = append(out, b)
	}
	return out, nil
}

// ParsePlaybook reads one playbook; unknown members and causes are errors.
func ParsePlaybook(text []byte) (Playbook, error) {
	var b Playbook
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&b); err != nil {
		return b, bulkhead.NewFault(bulkhead.KindMalformed, "the playbook cannot be read: "+err.Error()).WithCause(err)
	}
	if b.Name == "" || b.When == "" || len(b.Steps) == 0 {
		return b, bulkhead.NewFault(bulkhead.KindMalformed, "a playbook has a name, says when it applies, and has steps")
	}
	if !knownCause(b.Cause) {
		return b, bulkhead.Faultf(bulkhead.KindMalformed, "playbook %s: there is no cause %q", b.Name, b.Cause)
	}
	for _, a := range b.Asks {
		switch a {
		case "patch":
			b.Needs.Patch = true
		case "new_key":
			b.Needs.NewKey = true
		case "installed":
			b.Needs.Installed = true
		default:
			return b, bulkhead.Faultf(bulkhead.KindMalformed, "playbook %s asks for %q; patch, new_key and installed can be asked for", b.Name, a)
		}
	}
	_, err := bulkhead.ParseReason(b.Reason)
	return b, err
}

// Playbooks lists the playbooks.
func (s *Service) Playbooks() []Playbook { return s.cfg.Playbooks }

// Playbook returns one by name.
func (s *Service) Playbook(name string) (Playbook, error) {
	var names string
	for _, b := range s.cfg.Playbooks {
		if b.Name == name {
			return b, nil
		}
		names += " " + b.Name
	}
	return Playbook{}, bulkhead.Faultf(bulkhead.KindUsage, "there is no playbook %q", name).WithHint("one of:" + names)
}
