package tlog

import (
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
	if named != 24 {
		t.Errorf("%d kinds have names", named)
	}
}
