package rel

import (
	"strings"
	"testing"
)

// TestGroupsAreNameless: a numbered parameter is looked up by its name, in a list that is walked from its start for each; of
// 384 in one insert that is 70,000 steps.
func TestGroupsAreNameless(t *testing.T) {
	for _, s := range []statement{insertCertificate, insertEvidence, insertName, insertDER} {
		if strings.ContainsAny(s.group, "$") || !strings.Contains(s.each, "$1") || strings.Count(s.group, "?") != groupRows*strings.Count(s.each, "$") {
			t.Errorf("%s", s.group)
		}
	}
}
