package bulkhead_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"sort"
	"strings"
	"testing"
)

// rule says what packages below a path may import of this module, and why. The most specific path decides. "." is
// the root package; a trailing "/*" covers everything below.
type rule struct {
	path   string
	allow  []string
	reason string
}

var rules = []rule{
	{".", nil, "the nouns import nothing: everything may stand on them"},
	{"pki/profile", []string{"."}, "layer 1 is pure"},
	{"pki/lint", []string{".", "pki/policy", "pki/profile"}, "rules cite dated policy"},
	{"pki/keycheck", []string{"."}, "layer 1 is pure"},
	{"pki/policy", []string{"."}, "layer 1 is pure"},
	{"pki/ocsp", []string{"."}, "layer 1 is pure"},
	{"pki/crl", []string{"."}, "layer 1 is pure"},
	{"pki/pack", []string{".", "pki/ocsp"}, "packs hold OCSP answers"},
	{"pki/sct", []string{"."}, "layer 1 is pure"},
	{"pki/fixedkey", []string{}, "layer 1 is pure"},
	{"pki/csr", []string{"."}, "layer 1 is pure"},
	{"pki/graph", []string{".", "pki/keycheck"}, "layer 1 is pure"},
	{"ct", []string{".", "pki/sct", "pki/tlog"}, "it submits to logs, reads logs, and is trusted with nothing: no key, no store"},
	{"pki/transcript", []string{"."}, "what a ceremony leaves is read by a stranger's verifier too"},
	{"pki/tlog", []string{"."}, "an auditor's verifier stands on this alone"},
	{"keys", []string{".", "keys/*"}, "keys know nothing of what they sign"},
	{"publish", []string{"."}, "an object is bytes with a name"},
	{"store", []string{".", "pki/tlog", "store/*"}, "the store encodes evidence leaves in its transactions and holds no rules"},
	{"ceremony", []string{".", "keys", "pki/*"}, "the offline tool reaches no store and no network"},
	{"signer", []string{".", "keys", "pki/*", "internal/spool"}, "the signer is the only online holder of keys"},
	{"signer/signerrpc", []string{"."}, "the wire between processes knows what is asked and nothing of how it is done: no key is linked into a caller"},
	{"enroll", []string{".", "pki/*"}, "a decision becomes a request to the signer, never a signature"},
	{"enroll/dcv", []string{".", "pki/*", "enroll"}, "a child speaks the parent's ports"},
	{"enroll/acme", []string{".", "pki/*", "enroll"}, "a child speaks the parent's ports"},
	{"enroll/est", []string{".", "pki/*", "enroll"}, "a child speaks the parent's ports"},
	{"status", []string{".", "pki/*", "publish", "internal/spool"}, "status publishes; it holds no key"},
	{"status/caches", []string{".", "pki/ocsp", "pki/pack", "pki/policy"}, "a judge of caches knows answers and nothing of how they are made"},
	{"status/verifiers", []string{".", "pki/ocsp", "status"}, "a child speaks the parent's ports; it judges what is public and is given nothing else"},
	{"evidence", []string{".", "pki/tlog", "publish", "evidence/*"}, "the log library stays inside evidence/internal"},
	{"pki/approval", []string{"."}, "whoever acts on an approval judges it himself; an auditor's verifier stands on this too"},
	{"quorum", []string{".", "pki/approval"}, "approvals are signatures by people, verified with the standard library"},
	{"witness", []string{".", "pki/tlog"}, "a witness of somebody else's log knows its key and its newest checkpoint, and nothing of a house"},
	{"cmd/bulkhead-witness", []string{".", "witness"}, "a witness stands on another machine, with another owner"},
	{"watch", []string{".", "pki/*"}, "detectors look and do not act"},
	{"watch/outside", []string{".", "pki/*"}, "it reads the record through ports, fetches what strangers fetch, and changes nothing"},
	{"watch/deliver", []string{"."}, "alarms go out as text; it knows nothing of certificates"},
	{"watch/forged", []string{".", "pki/ocsp"}, "it makes forgeries under throw-away keys and asks our own check"},
	{"notice", []string{"."}, "it tells people names, serials and dates, and is trusted with nothing else"},
	{"notice/mailtest", []string{}, "the relay of tests knows mail and nothing of the house"},
	{"incident/report", []string{"."}, "a report is a function of what it is handed"},
	{"importer", []string{".", "pki/fixedkey"}, "what others left behind is read and judged; where it goes is another's business"},
	{"importer/stepca", []string{".", "importer"}, "one program's database and the library that reads it: linked into the command that imports, and into no role"},
	{"backup", []string{"."}, "a container of files: it knows nothing of what is in them"},
	{"proof", []string{".", "pki/*"}, "it compares what others say and is handed all of it: no key, no file, no network"},
	{"headroom", nil, "it knows the runtime and nothing else"},
	{"retention", []string{"."}, "what may go is decided by dates alone"},
	{"scan", []string{".", "pki/*"}, "it finds targets, keeps the pace and judges what looks say; how one looks is a port"},
	{"scan/advice", []string{"."}, "what to say is pure: it is given what is known"},
	{"console/check", []string{".", "scan/advice"}, "the public page says what to do with the words of advice; how one looks is a port"},
	{"console/signin", []string{".", "pki/approval"}, "people are let in here and approve nothing: what is approved is judged elsewhere"},
	{"scan/probe", []string{".", "pki/*"}, "one look at one endpoint: it dials what it is handed, and knows no record and no clock of its own"},
	{"edge", []string{".", "pki/ocsp", "pki/pack", "publish"}, "nothing to the right of publish holds a key or a database handle"},
	{"live", []string{".", "pki/ocsp"}, "live-signing switch of private hierarchies: a short-lived delegate's key beside the edge, behind a small port"},
	{"incident", []string{".", "pki/policy", "pki/tlog", "incident/*"}, "an incident only adds requests: revocations to status, replacements to enrolment, by ports; it reads evidence leaves for its timeline"},
	{"incident/plan", []string{"."}, "a plan is a function of a snapshot"},
	{"console", []string{"."}, "surfaces over read ports"},
	{"run", []string{
		".",
		"run/*",
		"pki/*",
		"keys",
		"keys/custody",
		"publish/*",
		"headroom",
		"store/*",
		"ceremony",
		"signer/*",
		"enroll/*",
		"status",
		"status/caches",
		"status/verifiers",
		"evidence",
		"evidence/cosign",
		"quorum",
		"ct",
		"watch/*",
		"notice",
		"retention",
		"scan/*",
		"backup",
		"proof",
		"importer",
		"edge",
		"live",
		"incident",
		"incident/plan",
		"incident/report",
		"console/*",
	}, "roles compose compartments"},
	{"cmd/bulkhead", []string{".", "drill", "run/*", "quorum", "console", "signer/signerrpc", "scan", "scan/probe", "pki/policy", "importer/stepca", "cmd/bulkhead/*"}, "the program wires roles, speaks to the API, and reads out what is written down: versions, policy"},
	{"drill", []string{".", "run/*", "pki/*", "incident/plan", "scan/probe/*", "internal/heldport"}, "rehearsals drive real roles and play the world outside: its servers, which the real probe looks at, and plans far larger than a house of their own; nothing imports them but the program"},
	{"cmd/bulkhead-root", []string{".", "ceremony", "keys", "keys/*", "pki/*", "quorum"}, "the offline tool reaches no store, no role and no network; quorum is how witnesses' keys are read"},
	{"test", []string{"internal/heldport"}, "black-box tests of the programs import nothing of the house"},
	{"internal/spool", []string{}, "octets on their way, whatever they are"},
	{"internal/heldport", []string{}, "it keeps a port of loopback for tests and rehearsals"},
	{"publish/publishtest", []string{".", "publish", "internal/heldport"}, "a foreign server for tests"},
	{"cmd/bulkhead-signer", []string{".", "run/*", "signer/signerrpc"}, "one role, shut in before it opens a key"},
	{"cmd/bulkhead-verify", []string{".", "pki/approval", "pki/tlog", "pki/transcript"}, "the auditor's tool shares formats with the writers and nothing else"},
}

// external forbids modules outside some folders.
var external = []struct {
	prefix string
	only   []string
	reason string
}{
	{"database/sql", []string{"store"}, "business rules never see a database handle"},
	{"modernc.org/sqlite", []string{"store/sqlite"}, "one driver, one place"},
	{"github.com/jackc/pgx", []string{"store/postgres", "store/storetest"}, "one driver, one place"},
	{"github.com/transparency-dev/tessera", []string{"evidence/internal"}, "the log library stays behind our own words"},
	{"github.com/go-webauthn/webauthn", []string{"console/signin"}, "0.x: behind our own words; approvals are verified without it"},
	{"github.com/coreos/go-oidc", []string{"console/signin"}, "one way to an identity provider"},
	{"golang.org/x/oauth2", []string{"console/signin"}, "one way to an identity provider"},
	{"github.com/zmap/zlint", []string{"pki/lint"}, "findings are ours, the rules are a library"},
	{"github.com/minio/minio-go", []string{"publish/s3"}, "one client of object stores, one place"},
	{"github.com/landlock-lsm/go-landlock", []string{"run"}, "one place where a process is shut in"},
	{"github.com/wneessen/go-mail", []string{"notice"}, "one way out for mail"},
	{"github.com/dgraph-io/badger", []string{"importer/stepca"}, "one way to somebody else's database"},
	{"golang.org/x/crypto/ocsp", nil, "it accepts answers signed by anybody under the issuer (golang/go#43522): tests only"},
	{"net/http", []string{"signer/signerrpc", "ct", "edge", "enroll", "console", "run", "drill", "cmd/bulkhead", "watch", "publish", "status/caches", "notice", "witness", "evidence/cosign", "cmd/bulkhead-witness", "test/foreign"}, "who speaks HTTP is a short list; notice posts to one configured URL and follows no redirect; status/caches purges and probes tiers at configured addresses only"},
	{"os/exec", []string{"status/verifiers", "run", "publish/publishtest", "store/storetest", "test/foreign", "drill"}, "programs of others that judge are run in one place, bounded, without a shell; run starts its own program, tests their servers, and a rehearsal the caches that it is asked to play behind (decision 0021)"},
}

type listed struct {
	ImportPath string
	Doc        string
	Imports    []string
	GoFiles    []string
	Name       string
}

func packages(t *testing.T) []listed {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,GoFiles,Name", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listed
	dec := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func local(importPath string) (string, bool) {
	if importPath == "bulkhead" {
		return ".", true
	}
	return strings.CutPrefix(importPath, "bulkhead/")
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }

func allowed(path string, allow []string) bool {
	for _, a := range allow {
		if dir, wide := strings.CutSuffix(a, "/*"); path == a || wide && under(path, dir) {
			return true
		}
	}
	return false
}

func ruleFor(path string) (rule, bool) {
	sorted := append([]rule(nil), rules...)
	sort.Slice(sorted, func(i, j int) bool { return len(sorted[i].path) > len(sorted[j].path) })
	for _, r := range sorted {
		if r.path == path || r.path != "." && under(path, r.path) {
			return r, true
		}
	}
	return rule{}, false
}

// TestWalls proves that arrows between packages point the way ARCHITECTURE.md says.
func TestWalls(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range packages(t) {
		path, _ := local(p.ImportPath)
		r, ok := ruleFor(path)
		if !ok {
			t.Errorf("package %s has no rule: say in layers_test.go what it may import, and why", path)
			continue
		}
		seen[r.path] = true
		for _, imp := range p.Imports {
			if to, ours := local(imp); ours {
				if !allowed(to, r.allow) && !under(to, r.path) {
					t.Errorf("%s imports %s; it may import %v: %s", path, to, r.allow, r.reason)
				}
				continue
			}
			for _, e := range external {
				if !under(imp, e.prefix) {
					continue
				}
				ok := false
				for _, dir := range e.only {
					ok = ok || under(path, dir)
				}
				if !ok {
					t.Errorf("%s imports %s, which only %v may: %s", path, imp, e.only, e.reason)
				}
			}
		}
	}
	for _, r := range rules {
		if !seen[r.path] {
			t.Errorf("the rule for %s has no package: delete it", r.path)
		}
	}
}

// TestPackagesSayWhatTheyAre wants a doc comment with purpose, invariant and refusals on every package of the house.
func TestPackagesSayWhatTheyAre(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// TestWallsWouldFail shows that the check is not blind: a planted wrong import is refused.
func TestWallsWouldFail(t *testing.T) {
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"edge", "keys", false}, {"edge", "store/sqlite", false}, {"cmd/bulkhead-verify", "keys", false},
		{"status", "signer", false}, {"pki/ocsp", "store/sqlite", false}, {"signer", "pki/lint", true},
	} {
		r, ok := ruleFor(c.from)
		if !ok || allowed(c.to, r.allow) != c.want {
			t.Errorf("%s importing %s: allowed is %v, want %v", c.from, c.to, !c.want, c.want)
		}
	}
}
