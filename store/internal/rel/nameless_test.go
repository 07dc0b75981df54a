package rel

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
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

// TestNameless: parameters in their order lose their numbers, others keep them.
func TestNameless(t *testing.T) {
	for text, want := range map[string]string{
		"INSERT INTO x VALUES ($1, $2)": "INSERT INTO x VALUES (?, ?)", "SELECT 1": "SELECT 1", insertName.group: insertName.group,
		"UPDATE x SET a = $2 WHERE b = $1": "UPDATE x SET a = $2 WHERE b = $1", "SELECT $1, $1": "SELECT $1, $1", "SELECT $2": "SELECT $2",
	} {
		if got := nameless(text); got != want {
			t.Errorf("%s", got)
		}
	}
	for _, text := range []string{moveOrder, moveOrderAndEnd, completeCertificate.each, insertCertificate.each, insertEvidence.each, moveHead.each, countUses.each} {
		if strings.Contains(nameless(text), "$") {
			t.Errorf("an order runs %s", text)
		}
	}
}

// TestWrittenAsJSON: what is written by hand is what encoding/json writes.
func TestWrittenAsJSON(t *testing.T) {
	odd := []string{"", "plain-1_A.test", `qu"ote`, `back\slash`, "<&>", "ä", "a\x00b", "\xff", "\u2028", "\x7f"}
	lists := [][]string{nil, {}, odd, {"one"}, {"one", "two"}}
	for _, w := range odd {
		lists = append(lists, []string{"x", w})
	}
	for _, list := range lists {
		if got, want := wordsArg(list), jsonArg(list); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		var ids []bulkhead.Identifier
		challenges := []bulkhead.Challenge{}
		for i, w := range list {
			ids = append(ids, bulkhead.Identifier{Type: bulkhead.DNS, Value: w})
			challenges = append(challenges, bulkhead.Challenge{ID: "i", Method: bulkhead.Method(w), Token: "t" + w, State: bulkhead.ChallengeValid, ValidatedAt: time.Unix(int64(i), 0)})
		}
		if got, want := namesArg(ids), jsonArg(ids); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if got, want := challengesArg(challenges), anyChallengesArg(challenges); got != want {
			t.Errorf("%s, want %s", got, want)
		}
		if len(challenges) > 0 {
			challenges[0].Problem = bulkhead.NewFault(bulkhead.KindDNS, "no such name")
			if got := challengesArg(challenges); got != anyChallengesArg(challenges) || !strings.Contains(got, "no such name") {
				t.Errorf("%s", got)
			}
		}
	}
	if got := challengesArg(nil); got != "[]" {
		t.Errorf("%s", got)
	}
}
