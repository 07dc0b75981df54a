package bulkhead_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var page = regexp.MustCompile(`^[a-z0-9-]+\.md$`)

// runbooksIn are the pages that a source names: what is given to a field or a constant called Runbook, and every literal that is
// the name of a page.
func runbooksIn(t *testing.T, name string, src any) (pages, wrong []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, src, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	text := func(e ast.Expr) (string, bool) {
		l, ok := e.(*ast.BasicLit)
		if !ok || l.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(l.Value)
		return s, err == nil
	}
	named := func(name, value string) {
		if strings.Contains(strings.ToLower(name), "runbook") && !page.MatchString(value) {
			wrong = append(wrong, value)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.KeyValueExpr:
			if id, ok := x.Key.(*ast.Ident); ok {
				if s, ok := text(x.Value); ok {
					named(id.Name, s)
				}
			}
		case *ast.ValueSpec:
			for i, id := range x.Names {
				if i < len(x.Values) {
					if s, ok := text(x.Values[i]); ok {
						named(id.Name, s)
					}
				}
			}
		case *ast.BasicLit:
			if s, ok := text(x); ok && page.MatchString(s) {
				pages = append(pages, s)
			}
		}
		return true
	})
	return pages, wrong
}

// TestRunbooksExist: whoever is woken by an alarm finds its page. An alarm gives the name of a file in doc/runbooks and nothing
// before it, for mail, console and command put the folder there.
func TestRunbooksExist(t *testing.T) {
	seen := map[string]bool{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != "." || d.Name() == "testdata" || d.Name() == "storetest") {
			if d != nil && d.IsDir() && err == nil {
				return filepath.SkipDir
			}
			return err
		}
		if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		pages, wrong := runbooksIn(t, path, nil)
		for _, x := range wrong {
			t.Errorf("%s: %q is not the name of a page in doc/runbooks", path, x)
		}
		for _, p := range pages {
			seen[p] = true
			if body, err := os.ReadFile(filepath.Join("doc/runbooks", p)); err != nil {
				t.Errorf("%s names a runbook that is not there: %v", path, err)
			} else if !strings.HasPrefix(string(body), "# ") || !strings.Contains(string(body), "\n") {
				t.Errorf("%s says nothing", p)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) < 15 {
		t.Errorf("%d pages are named: %v", len(seen), seen)
	}
	// It would see a wrong one.
	pages, wrong := runbooksIn(t, "x.go", `package x
const runbookX = "doc/runbooks/a.md"
var y = z{Runbook: "doc/b.md"}
var w = f("absent.md")`)
	if len(wrong) != 2 || len(pages) != 1 {
		t.Errorf("planted: %v, %v", pages, wrong)
	}
}
