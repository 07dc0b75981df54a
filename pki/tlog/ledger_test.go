package tlog

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"bulkhead"
)

func TestLedger(t *testing.T) {
	h := func(s string) bulkhead.Hash { return bulkhead.Digest([]byte(s)) }
	intent := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, Authority: "a", Serial: serial(t, "01"), Digest: h("tbs"), Signer: h("ca")}
	outcome := bulkhead.Evidence{Kind: bulkhead.EvCertificateOutcome, Authority: "a", Serial: serial(t, "01"), Digest: h("der"), Link: h("tbs"), Signer: h("ca")}
	abandon := bulkhead.Evidence{Kind: bulkhead.EvCertificateAbandon, Authority: "a", Serial: serial(t, "01"), Link: h("tbs")}
	batch := bulkhead.Evidence{Kind: bulkhead.EvBatchIntent, Authority: "a", Ref: "b1", Digest: h("root"), Signer: h("ca"), Count: 9}
	signed := bulkhead.Evidence{Kind: bulkhead.EvBatchOutcome, Authority: "a", Ref: "b1", Digest: h("sigs"), Link: h("root"), Signer: h("ca"), Count: 9}
	with := func(e bulkhead.Evidence, change func(*bulkhead.Evidence)) bulkhead.Evidence { change(&e); return e }
	twin := func(e *bulkhead.Evidence) { e.Authority = "b" }
	for name, c := range map[string]struct {
		leaves []bulkhead.Evidence
		rule   string // of the last leaf
	}{
		"good":                   {[]bulkhead.Evidence{intent, outcome, batch, signed}, ""},
		"serial of two issuers":  {[]bulkhead.Evidence{intent, with(intent, twin), outcome, with(outcome, twin)}, ""},
		"outcome without signer": {[]bulkhead.Evidence{intent, with(outcome, func(e *bulkhead.Evidence) { e.Signer = bulkhead.Hash{} })}, ""},
		"abandoned":              {[]bulkhead.Evidence{intent, abandon}, ""},
		"no intent":              {[]bulkhead.Evidence{outcome}, RuleNoIntent},
		"intent of the twin":     {[]bulkhead.Evidence{with(intent, twin), outcome}, RuleNoIntent},
		"intent after":           {[]bulkhead.Evidence{batch, outcome}, RuleNoIntent},
		"two intents":            {[]bulkhead.Evidence{intent, intent}, RuleTwoIntents},
		"intent after abandon":   {[]bulkhead.Evidence{intent, abandon, intent}, RuleTwoIntents},
		"two outcomes":           {[]bulkhead.Evidence{intent, outcome, outcome}, RuleTwoOutcomes},
		"other link":             {[]bulkhead.Evidence{intent, with(outcome, func(e *bulkhead.Evidence) { e.Link = h("x") })}, RuleOtherIntent},
		"other signer":           {[]bulkhead.Evidence{intent, with(outcome, func(e *bulkhead.Evidence) { e.Signer = h("x") })}, RuleOtherIntent},
		"signed after abandon":   {[]bulkhead.Evidence{intent, abandon, outcome}, RuleAfterEnd},
		"abandoned after signed": {[]bulkhead.Evidence{intent, outcome, abandon}, RuleAfterEnd},
		"abandon of nothing":     {[]bulkhead.Evidence{abandon}, RuleAbandon},
		"no digest":              {[]bulkhead.Evidence{with(intent, func(e *bulkhead.Evidence) { e.Digest = bulkhead.Hash{} })}, RuleIncomplete},
		"no serial":              {[]bulkhead.Evidence{with(intent, func(e *bulkhead.Evidence) { e.Serial = bulkhead.Serial{} })}, RuleIncomplete},
		"batch without intent":   {[]bulkhead.Evidence{signed}, RuleNoBatchIntent},
		"two batch intents":      {[]bulkhead.Evidence{batch, batch}, RuleTwoBatchIntents},
		"two batch outcomes":     {[]bulkhead.Evidence{batch, signed, signed}, RuleTwoBatchOutcomes},
		"batch count":            {[]bulkhead.Evidence{batch, with(signed, func(e *bulkhead.Evidence) { e.Count = 10 })}, RuleOtherBatchIntent},
		"batch of nothing":       {[]bulkhead.Evidence{with(batch, func(e *bulkhead.Evidence) { e.Count = 0 })}, RuleIncomplete},
	} {
		l := NewLedger()
		for i, e := range c.leaves {
			got := ""
			for _, v := range l.Add(int64(i), e) {
				got = v.Rule
			}
			want := ""
			if i == len(c.leaves)-1 {
				want = c.rule
			}
			if got != want {
				t.Errorf("%s: leaf %d breaks %q, want %q", name, i, got, want)
			}
		}
	}
	l := NewLedger()
	for i, e := range []bulkhead.Evidence{intent, batch, outcome, signed, with(intent, twin)} {
		l.Add(int64(i), e)
	}
	if got, want := l.Keys()[h("ca")], (KeyCount{Certificates: 1, Batches: 1, BatchSignatures: 9, Open: 1}); got != want || got.Signatures() != 10 {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}

func TestEveryKindHasAName(t *testing.T) {
	named := 0
	for k := bulkhead.EvidenceKind(0); k < 200; k++ {
		if name := KindName(k); name == "" {
			t.Errorf("kind %d has no name", k)
		} else if !strings.HasPrefix(name, "kind-") {
			named++
		}
	}
	source, err := os.ReadFile("../../evidence.go")
	if err != nil {
		t.Fatal(err)
	}
	if kinds := len(regexp.MustCompile(`(?m)^\tEv\w+ .*= \d+`).FindAll(source, -1)); named != kinds || kinds < 40 {
		t.Errorf("%d of %d kinds have names", named, kinds)
	}
}

// TestLedgerLiveWindow: a window may be signed in less often than it allows, never more, and only its own outcome ends it.
func TestLedgerLiveWindow(t *testing.T) {
	h := func(s string) bulkhead.Hash { return bulkhead.Digest([]byte(s)) }
	window := bulkhead.Evidence{Kind: bulkhead.EvLiveWindow, Authority: "a", Ref: "w", Digest: h("delegate"), Signer: h("key"), Count: 9}
	outcome := bulkhead.Evidence{Kind: bulkhead.EvLiveOutcome, Authority: "a", Ref: "w", Digest: h("sigs"), Link: h("delegate"), Signer: h("key"), Count: 4}
	for name, c := range map[string]struct {
		change func(*bulkhead.Evidence)
		rule   string
	}{
		"fewer":   {func(*bulkhead.Evidence) {}, ""},
		"none":    {func(e *bulkhead.Evidence) { e.Count = 0 }, ""},
		"more":    {func(e *bulkhead.Evidence) { e.Count = 10 }, RuleOtherBatchIntent},
		"a batch": {func(e *bulkhead.Evidence) { e.Kind = bulkhead.EvBatchOutcome }, RuleOtherBatchIntent},
		"link":    {func(e *bulkhead.Evidence) { e.Link = h("other") }, RuleOtherBatchIntent},
		"unknown": {func(e *bulkhead.Evidence) { e.Ref = "x" }, RuleNoBatchIntent},
	} {
		l, end := NewLedger(), outcome
		c.change(&end)
		rule := ""
		if v := append(l.Add(0, window), l.Add(1, end)...); len(v) > 0 {
			rule = v[0].Rule
		}
		if rule != c.rule {
			t.Errorf("%s: rule %q, want %q", name, rule, c.rule)
		}
		if got := l.Keys()[h("key")].Signatures(); c.rule == "" && got != end.Count {
			t.Errorf("%s: the key made %d signatures by its leaves, want %d", name, got, end.Count)
		}
	}
}
