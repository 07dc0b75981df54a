package run

import (
	"fmt"
	"os"
	"strings"

	"bulkhead/pki/graph"
	"bulkhead/status"
)

// Trust is who trusts what, as far as previews ask.
type Trust struct {
	// AnchorSets are kinds of relying parties: name, and files of PEM or DER certificates that each trusts. A preview says for
	// each who loses paths. None means our roots, each alone and all together.
	AnchorSets []AnchorSet `yaml:"anchor_sets,omitempty"`
}

// AnchorSet is what one kind of relying party trusts.
type AnchorSet struct {
	Name  string   `yaml:"name"`
	Files []string `yaml:"files"` // relative to the data directory
}

func (t Trust) check() error {
	seen := map[string]bool{}
	for _, s := range t.AnchorSets {
		switch {
		case s.Name == "" || strings.ContainsAny(s.Name, "\n\r\t"):
			return wrong("trust.anchor_sets", "a set needs a name of one line")
		case seen[s.Name]:
			return wrong("trust.anchor_sets", "two sets are named %q", s.Name)
		case len(s.Files) == 0:
			return wrong("trust.anchor_sets", "the set %q names no files", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

// maxAnchorFile bounds a file of trust anchors: the largest programs of browsers have a few hundred.
const maxAnchorFile = 4 << 20

// read reads the files of every set. A file with anything in it that is no certificate is refused: a set that lacks a root
// would make a preview cry wolf.
func (t Trust) read(dir string) ([]status.AnchorSet, error) {
	var out []status.AnchorSet
	for _, s := range t.AnchorSets {
		x := status.AnchorSet{Name: s.Name}
		for _, name := range s.Files {
			path := inDir(dir, name)
			info, err := os.Stat(path)
			if err == nil && info.Size() > maxAnchorFile {
				err = fmt.Errorf("larger than %d MiB", maxAnchorFile>>20)
			}
			var body []byte
			if err == nil {
				body, err = os.ReadFile(path)
			}
			if err != nil {
				return nil, wrong("trust.anchor_sets", "%s of %q cannot be read: %s", name, s.Name, reason(err))
			}
			found, unparsed := graph.Read(name, body)
			if len(unparsed) > 0 {
				return nil, wrong("trust.anchor_sets", "%s of %q, number %d: %s", name, s.Name, unparsed[0].Index+1, unparsed[0].Reason)
			}
			for _, c := range found {
				x.Certificates = append(x.Certificates, c.Raw)
			}
		}
		out = append(out, x)
	}
	return out, nil
}
