package bulkhead

import "testing"

// TestLookReasonsBelongToOneVerdict: each code has a verdict of the closed set, each verdict has a code and a sentence.
func TestLookReasonsBelongToOneVerdict(t *testing.T) {
	used := map[Verdict]int{}
	for r, v := range LookReasons {
		if r == "" {
			t.Error("a reason is empty")
		}
		used[v]++
	}
	for _, v := range Verdicts {
		if used[v] == 0 || v.Means() == "" {
			t.Errorf("verdict %s: %d reasons, %q", v, used[v], v.Means())
		}
		delete(used, v)
	}
	if len(used) != 0 {
		t.Errorf("reasons lead to verdicts outside the set: %v", used)
	}
}

// TestWhatWasNotSeenIsNotSafe: no gate may go by unreachable, inconclusive or anything unknown.
func TestWhatWasNotSeenIsNotSafe(t *testing.T) {
	for v, want := range map[Verdict]bool{Vulnerable: true, Patched: true, NotSupported: true, Unreachable: false, Inconclusive: false, "": false, "safe": false} {
		if v.Seen() != want {
			t.Errorf("%q seen: %v", v, v.Seen())
		}
	}
}
