package run

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

var update = flag.Bool("update", false, "write the configuration reference")

// entry is one key of the configuration.
type entry struct {
	path    string // "status.one_person"
	depth   int
	kind    string
	def     string // YAML; "" for a group
	about   string
	group   bool
	omitted bool // not written while it is empty
}

// comments reads what the source says of each field: type name, field name, text.
func comments(t *testing.T) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					out[spec.Name.Name] = fieldComments(s)
				}
			}
			return true
		})
	}
	return out
}

// fieldComments gives a field without a comment the one above it when that names the field.
func fieldComments(s *ast.StructType) map[string]string {
	out, last := map[string]string{}, ""
	for _, f := range s.Fields.List {
		text := strings.TrimSpace(f.Doc.Text() + f.Comment.Text())
		for _, n := range f.Names {
			if text == "" && strings.Contains(last, n.Name) {
				text = last
			}
			out[n.Name] = strings.Join(strings.Fields(text), " ")
		}
		last = text
	}
	return out
}

var inner = regexp.MustCompile(`\b[A-Z][A-Za-z]*[a-z][A-Z][A-Za-z]*\b`)

// inKeys puts the keys of the file where the source says fields.
func inKeys(text string, keys map[string]string) string {
	first, rest, _ := strings.Cut(text, " ")
	if k, ok := keys[strings.TrimRight(first, ":,")]; ok {
		text = "`" + k + "`" + first[len(strings.TrimRight(first, ":,")):] + " " + rest
	}
	return inner.ReplaceAllStringFunc(text, func(w string) string {
		if k, ok := keys[w]; ok {
			return "`" + k + "`"
		}
		return w
	})
}

// entries walks the structure with its defaults.
func entries(t *testing.T, v reflect.Value, prefix string, depth int, said map[string]map[string]string) (out []entry) {
	t.Helper()
	keys := map[string]string{}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		keys[f.Name], _, _ = strings.Cut(f.Tag.Get("yaml"), ",")
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		_, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		e := entry{path: prefix + keys[f.Name], depth: depth, omitted: options == "omitempty" && v.Field(i).IsZero(), kind: kindOf(f.Type),
			about: inKeys(said[v.Type().Name()][f.Name], keys)}
		if f.Type.Kind() == reflect.Struct {
			e.group = true
			out = append(append(out, e), entries(t, v.Field(i), e.path+".", depth+1, said)...)
			continue
		}
		var node yaml.Node
		if err := node.Encode(v.Field(i).Interface()); err != nil {
			t.Fatal(err)
		}
		if node.Kind == yaml.SequenceNode {
			node.Style = yaml.FlowStyle
		}
		text, err := yaml.Marshal(&node)
		if err != nil {
			t.Fatal(err)
		}
		e.def = strings.Join(strings.Fields(string(text)), " ")
		out = append(out, e)
	}
	return out
}

func kindOf(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[Duration]():
		return "duration: 90m, 36h, 7d"
	case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.String:
		return "list of text"
	case t.Kind() == reflect.Slice || t.Kind() == reflect.Map:
		return "list"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.String:
		return "text"
	default:
		return "number"
	}
}

func wrap(text, indent string) string {
	var b strings.Builder
	line := indent
	for _, w := range strings.Fields(text) {
		if len(line)+len(w) > 110 {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = indent
		}
		line += w + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
}

func example(all []entry) []byte {
	var b bytes.Buffer
	b.WriteString("# bulkhead.yaml with every key, its default and its meaning. Unknown keys are errors: bulkhead config check FILE\n")
	for _, e := range all {
		indent := strings.Repeat("  ", e.depth)
		if e.depth == 0 || e.group {
			b.WriteString("\n")
		}
		b.WriteString(wrap(strings.ReplaceAll(e.about, "`", ""), indent+"# "))
		key := e.path[strings.LastIndex(e.path, ".")+1:]
		switch {
		case e.group:
			fmt.Fprintf(&b, "%s%s:\n", indent, key)
		case e.omitted:
			fmt.Fprintf(&b, "%s#%s: %s\n", indent, key, e.def)
		default:
			fmt.Fprintf(&b, "%s%s: %s\n", indent, key, e.def)
		}
	}
	return b.Bytes()
}

func manual(all []entry) []byte {
	var b bytes.Buffer
	b.WriteString("# Configuration\n\nGenerated from the comments of `Config` in `run/config.go`: `go generate ./run`.\n\n" +
		"One strict YAML file, `bulkhead.yaml` in the data directory; unknown keys are errors. It is written at first start; flags and\n" +
		"environment variables set some of its keys then, and must agree with it later. `bulkhead config check` reads it, and\n" +
		"`bulkhead config check --explain` prints every key with its default. `bulkhead.example.yaml` beside this page is the whole file.\n")
	for _, e := range all {
		if e.group {
			fmt.Fprintf(&b, "\n## `%s`\n\n%s\n", e.path, wrap(e.about, ""))
			continue
		}
		def := "`" + e.def + "`"
		if e.def == `""` || e.def == "[]" || e.def == "null" || e.def == "{}" {
			def = "none"
		}
		fmt.Fprintf(&b, "\n### `%s`\n\n%s\n%s; default %s", e.path, wrap(e.about, ""), e.kind, def)
		if slices.Contains(SettingKeys(), e.path) {
			fmt.Fprintf(&b, "; `%s`, `%s`", Flag(e.path), Variable(e.path))
		}
		b.WriteString("\n")
	}
	return b.Bytes()
}

// TestReference holds the committed reference and example against the one documented structure.
func TestReference(t *testing.T) {
	all := entries(t, reflect.ValueOf(DefaultConfig()), "", 0, comments(t))
	for _, e := range all {
		if e.about == "" {
			t.Errorf("%s has no comment in the source: say what it is for", e.path)
		}
	}
	for path, made := range map[string][]byte{"bulkhead.example.yaml": example(all), "../doc/reference/bulkhead.example.yaml": example(all), "../doc/reference/configuration.md": manual(all)} {
		if *update {
			if err := os.WriteFile(path, made, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		kept, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(kept, made) {
			t.Errorf("%s is not what the source makes: go generate ./run", path)
		}
	}
	c, err := ParseConfig(example(all))
	if err != nil || !reflect.DeepEqual(c, DefaultConfig()) {
		t.Errorf("the example is not the default configuration: %v\n%+v", err, c)
	}
	// With every key that is commented out put in, it is a configuration still.
	loud := regexp.MustCompile(`(?m)^( *)#([a-z_]+: )`).ReplaceAll(example(all), []byte("$1$2"))
	if bytes.Equal(loud, example(all)) {
		t.Error("no key is commented out")
	}
	if _, err = ParseConfig(loud); err != nil {
		t.Errorf("a key of the example is not read: %v", err)
	}
	for _, k := range SettingKeys() {
		if !slices.ContainsFunc(all, func(e entry) bool { return e.path == k }) {
			t.Errorf("the setting %s is no key of the configuration", k)
		}
	}
}
