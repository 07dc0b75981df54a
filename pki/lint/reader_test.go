package lint

import (
	"bytes"
	"encoding/json"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	zlintPath  = "github.com/zmap/zlint/v3"
	certType   = "*github.com/zmap/zcrypto/x509.Certificate"
	everything = "*" // something that the analysis does not follow
)

// reader finds out from the source of the lint library what of a certificate a function reads: names of fields of the
// library's Certificate, "ext:NAME" for an extension by its constant OID ("is:NAME" when only whether it is there), and
// everything for whatever it does not follow: the certificate put somewhere, handed to a function that is not in the
// source, a method of it, a clock, a package variable that is written to.
type reader struct {
	fset    *token.FileSet
	funcs   map[string]*ast.FuncDecl // "path.Name" and "path.Type.Name"
	info    map[string]*types.Info   // by path
	written map[string]bool          // package variables that some function changes
	memo    map[string]map[string]bool
}

type listedPackage struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

func newReader(t *testing.T) *reader {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-export", "-json=ImportPath,Dir,Export,GoFiles", zlintPath).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := map[string]string{}
	var ours []listedPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listedPackage
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if strings.HasPrefix(p.ImportPath, zlintPath+"/") {
			ours = append(ours, p)
		}
	}
	r := &reader{fset: token.NewFileSet(), funcs: map[string]*ast.FuncDecl{}, info: map[string]*types.Info{}, written: map[string]bool{}, memo: map[string]map[string]bool{}}
	imp := importer.ForCompiler(r.fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, p := range ours {
		var files []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(r.fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
		}
		info := &types.Info{Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{}, Selections: map[*ast.SelectorExpr]*types.Selection{}, Types: map[ast.Expr]types.TypeAndValue{}}
		if _, err := (&types.Config{Importer: imp}).Check(p.ImportPath, r.fset, files, info); err != nil {
			t.Fatal(err)
		}
		r.info[p.ImportPath] = info
		for _, f := range files {
			r.declare(p.ImportPath, f, info)
		}
	}
	return r
}

func (r *reader) declare(path string, f *ast.File, info *types.Info) {
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		name := path + "." + fn.Name.Name
		if fn.Recv != nil {
			recv := fn.Recv.List[0].Type
			if star, ok := recv.(*ast.StarExpr); ok {
				recv = star.X
			}
			if id, ok := recv.(*ast.Ident); ok {
				name = path + "." + id.Name + "." + fn.Name.Name
			}
		}
		r.funcs[name] = fn
		if fn.Name.Name == "init" {
			continue
		}
		ast.Inspect(fn.Body, func(n ast.Node) bool {
			if a, ok := n.(*ast.AssignStmt); ok && a.Tok != token.DEFINE {
				for _, to := range a.Lhs {
					r.writes(to, info)
				}
			}
			if a, ok := n.(*ast.IncDecStmt); ok {
				r.writes(a.X, info)
			}
			return true
		})
	}
}

// writes notes the package variable at the root of an assignment's left side.
func (r *reader) writes(to ast.Expr, info *types.Info) {
	for {
		switch x := to.(type) {
		case *ast.IndexExpr:
			to = x.X
		case *ast.StarExpr:
			to = x.X
		case *ast.ParenExpr:
			to = x.X
		case *ast.SelectorExpr:
			if v, ok := info.Uses[x.Sel].(*types.Var); ok && global(v) {
				r.written[v.Pkg().Path()+"."+v.Name()] = true
			}
			to = x.X
		case *ast.Ident:
			if v, ok := info.Uses[x].(*types.Var); ok && global(v) {
				r.written[v.Pkg().Path()+"."+v.Name()] = true
			}
			return
		default:
			return
		}
	}
}

func global(v *types.Var) bool { return v.Pkg() != nil && v.Parent() == v.Pkg().Scope() }

// of is what a function reads.
func (r *reader) of(name string) map[string]bool {
	if name == invalidDER {
		return map[string]bool{"is:each": true}
	}
	if known, ok := r.memo[name]; ok {
		return known
	}
	out := map[string]bool{}
	r.memo[name] = out // a circle adds nothing
	fn, ok := r.funcs[name]
	if !ok {
		out[everything+" no source of "+name] = true
		return out
	}
	path := name[:strings.Index(name[strings.LastIndex(name, "/"):], ".")+strings.LastIndex(name, "/")]
	(&walk{r: r, info: r.info[path], out: out, seen: map[ast.Node]bool{}, each: map[types.Object]bool{}}).body(fn.Body)
	return out
}

type walk struct {
	r    *reader
	info *types.Info
	out  map[string]bool
	seen map[ast.Node]bool     // identifiers of certificates and extensions, and fields, that are accounted for
	each map[types.Object]bool // variables that go over all extensions
}

func (w *walk) body(b ast.Node) {
	ast.Inspect(b, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.CallExpr:
			w.call(x)
		case *ast.SelectorExpr:
			w.selector(x)
		case *ast.AssignStmt:
			for _, to := range x.Lhs {
				if w.ofCert(root(to)) && to != root(to) {
					w.out[everything+" it writes to the certificate"] = true
				}
			}
		case *ast.BinaryExpr: // c == nil
			for _, side := range []ast.Expr{x.X, x.Y} {
				if w.ofCert(side) {
					w.seen[side] = true
				}
			}
		case *ast.RangeStmt:
			w.loop(x)
		case *ast.IfStmt:
			w.ofExtension(x)
		case *ast.Ident:
			w.ident(x)
		}
		return true
	})
}

// loop accounts for one over all extensions of a certificate: of them OID, criticality and place are the frame's. The values
// are not, and ofExtension sees to them.
func (w *walk) loop(x *ast.RangeStmt) {
	all, ok := x.X.(*ast.SelectorExpr)
	e, named := x.Value.(*ast.Ident)
	if !ok || !named || all.Sel.Name != "Extensions" || !w.ofCert(all.X) || x.Tok != token.DEFINE {
		return
	}
	w.each[w.info.Defs[e]] = true
	w.seen[all], w.seen[all.X] = true, true
	w.out["is:each"] = true
	ast.Inspect(x.Body, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && (s.Sel.Name == "Id" || s.Sel.Name == "Critical") && w.isEach(s.X) {
			w.seen[s.X] = true
		}
		return true
	})
}

func (w *walk) isEach(e ast.Expr) bool {
	id, ok := e.(*ast.Ident)
	return ok && w.each[w.info.Uses[id]]
}

// ofExtension accounts for the values of one extension: "if e.Id.Equal(util.OID) { … e.Value … }" in such a loop.
func (w *walk) ofExtension(x *ast.IfStmt) {
	call, ok := x.Cond.(*ast.CallExpr)
	if !ok || len(call.Args) != 1 {
		return
	}
	equal, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || equal.Sel.Name != "Equal" {
		return
	}
	id, ok := equal.X.(*ast.SelectorExpr)
	oid := w.constant(call.Args[0])
	if !ok || id.Sel.Name != "Id" || !w.isEach(id.X) || oid == "" {
		return
	}
	ast.Inspect(x.Body, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Value" && w.isEach(s.X) {
			w.seen[s.X] = true
			w.out["ext:"+oid] = true
		}
		return true
	})
}

// constant is the name of an OID of the library that nothing changes, "" for anything else.
func (w *walk) constant(e ast.Expr) string {
	id := last(e)
	if id == nil {
		return ""
	}
	v, ok := w.info.Uses[id].(*types.Var)
	if !ok || !global(v) || v.Pkg().Path() != zlintPath+"/util" || w.r.written[v.Pkg().Path()+"."+v.Name()] {
		return ""
	}
	return v.Name()
}

// root is the leftmost operand.
func root(e ast.Expr) ast.Expr {
	for {
		switch x := e.(type) {
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return e
		}
	}
}

func (w *walk) ofCert(e ast.Expr) bool {
	tv, ok := w.info.Types[e]
	if id, is := e.(*ast.Ident); is && !ok {
		if obj := w.info.Uses[id]; obj != nil {
			return obj.Type().String() == certType
		}
	}
	return ok && tv.Type != nil && strings.TrimPrefix(tv.Type.String(), "*") == strings.TrimPrefix(certType, "*")
}

func (w *walk) ident(x *ast.Ident) {
	switch obj := w.info.Uses[x].(type) {
	case *types.Var:
		if obj.Type().String() == certType && !w.seen[x] {
			w.out[everything+" the certificate goes where it is not followed"] = true
		}
		if w.each[obj] && !w.seen[x] {
			w.out["Extensions"] = true
		}
		if global(obj) && w.r.written[obj.Pkg().Path()+"."+obj.Name()] {
			w.out[everything+" variable "+obj.Name()+" changes"] = true
		}
	case *types.Func:
		w.function(obj)
	}
}

// function follows every function that is named, called or not: what it does without the certificate counts too.
func (w *walk) function(f *types.Func) {
	if f.Pkg() == nil {
		return
	}
	path := f.Pkg().Path()
	switch path {
	case "time":
		if n := f.Name(); n == "Now" || n == "Since" || n == "Until" || n == "After" || n == "Sleep" {
			w.out[everything+" it reads the clock"] = true
		}
	case "os", "net/http", "math/rand", "math/rand/v2", "crypto/rand":
		w.out[everything+" it calls "+path] = true
	}
	if !strings.HasPrefix(path, zlintPath+"/") || path == zlintPath+"/lint" {
		return
	}
	name := path + "." + f.Name()
	if name == getTimes {
		w.out["Validity"] = true
		return
	}
	if name == zlintPath+"/util.IsExtInCert" || name == zlintPath+"/util.GetExtFromCert" {
		return
	}
	if recv := f.Type().(*types.Signature).Recv(); recv != nil {
		t := recv.Type()
		if p, ok := t.(*types.Pointer); ok {
			t = p.Elem()
		}
		named, ok := t.(*types.Named)
		if !ok || types.IsInterface(t) {
			w.out[everything+" it calls through an interface"] = true
			return
		}
		name = path + "." + named.Obj().Name() + "." + f.Name()
	}
	maps.Copy(w.out, w.r.of(name))
}

// call accounts for certificates among the arguments of a call of a function in the source.
func (w *walk) call(x *ast.CallExpr) {
	var obj types.Object
	switch f := x.Fun.(type) {
	case *ast.Ident:
		obj = w.info.Uses[f]
	case *ast.SelectorExpr:
		obj = w.info.Uses[f.Sel]
	}
	fn, ok := obj.(*types.Func)
	if !ok || fn.Pkg() == nil || !strings.HasPrefix(fn.Pkg().Path(), zlintPath+"/") {
		return
	}
	if fn.Pkg().Path() == zlintPath+"/util" && (fn.Name() == "IsExtInCert" || fn.Name() == "GetExtFromCert") {
		if oid := w.constant(x.Args[1]); oid != "" {
			kind := "ext:"
			if fn.Name() == "IsExtInCert" {
				kind = "is:"
			}
			w.out[kind+oid] = true
			w.seen[x.Args[0]] = true
		}
		return
	}
	for _, a := range x.Args {
		if id, ok := a.(*ast.Ident); ok && w.ofCert(a) {
			w.seen[id] = true // function follows it there
		}
	}
}

func last(e ast.Expr) *ast.Ident {
	switch x := e.(type) {
	case *ast.Ident:
		return x
	case *ast.SelectorExpr:
		return x.Sel
	}
	return nil
}

// selector accounts for a field of a certificate.
func (w *walk) selector(x *ast.SelectorExpr) {
	if !w.ofCert(x.X) || w.seen[x] {
		return
	}
	sel := w.info.Selections[x]
	if sel == nil {
		return
	}
	if sel.Kind() != types.FieldVal {
		w.out[everything+" method "+x.Sel.Name] = true
		return
	}
	w.out[x.Sel.Name] = true
	w.seen[x.X] = true
}
