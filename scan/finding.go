package scan

import "bulkhead"

// Finding is something that a whole look found beside its verdict.
type Finding struct {
	Rule     string            `json:"rule"`
	Severity bulkhead.Severity `json:"severity"`
	Message  string            `json:"message"`
}

// ruleWords describe each rule in one sentence.
var ruleWords = map[string]string{}
