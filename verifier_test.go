package bulkhead_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestVerifierStandsAlone: what an auditor builds and believes shares the formats with those who write them, and nothing else, by no
// detour. A fault in the code that writes the log, or that proves it here, cannot hide itself there.
func TestVerifierStandsAlone(t *testing.T) {
	formats := []string{"bulkhead", "bulkhead/pki/approval", "bulkhead/pki/tlog", "bulkhead/pki/transcript", "bulkhead/cmd/bulkhead-verify"}
	alone := func(path string) (wrong []string) {
		out, err := exec.Command("go", "list", "-deps", path).Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		for _, p := range strings.Fields(string(out)) {
			_, ours := local(p)
			if ours && !slices.Contains(formats, p) || under(p, "net/http") || under(p, "database/sql") || under(p, "os/exec") || under(p, "github.com/transparency-dev/tessera") {
				wrong = append(wrong, p)
			}
		}
		return wrong
	}
	if wrong := alone("./cmd/bulkhead-verify"); len(wrong) > 0 {
		t.Errorf("bulkhead-verify is built from %v", wrong)
	}
	if wrong := alone("./evidence"); !slices.Contains(wrong, "bulkhead/evidence") || !slices.Contains(wrong, "github.com/transparency-dev/tessera") {
		t.Errorf("the check is blind: of the writer it says %v", wrong)
	}
}
