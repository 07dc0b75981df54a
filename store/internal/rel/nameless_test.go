package rel

import (
	"strings"
	"testing"
)

// TestGroupsAreNameless: a numbered parameter is looked up by its name, in a list that is walked from its start for each; of
// 384 in one insert that is 70,000 steps.
func TestGroupsAreNameless(t *testing.T) {
	for _, s := range []statement{insertCertificate, insertEvidence, insertName, insertDER} {
		n := strings.Count(s.each, "$")
		if strings.ContainsAny(s.group+s.crowd, "$") || !strings.Contains(s.each, "$1") || strings.Count(s.group, "?") != groupRows*n || strings.Count(s.crowd, "?") != crowdRows*n {
			t.Errorf("%s", s.group)
		}
	}
}

// TestForeignRowsAreShort: what the certificates of an import share is a parameter of the statement and not of each row.
func TestForeignRowsAreShort(t *testing.T) {
	s := insertForeign
	if strings.ContainsAny(s.group+s.crowd, "$") || strings.Count(s.each, "$") != 10+2 || strings.Count(s.group, "?") != groupRows*10+2 || strings.Count(s.crowd, "?") != crowdRows*10+2 {
		t.Errorf("%s", s.group)
	}
}
