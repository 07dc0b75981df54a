package report

import (
	"encoding/json"
	"fmt"
	"strings"

	"bulkhead"
)

// heuristic is the selector with which the set was found, so that a third party can find it again, or why it cannot.
func (d Document) heuristic() string {
	s := d.Incident.Scope
	if s.IsEmpty() {
		return ""
	}
	if n := len(s.Certificates); n > 0 {
		s.Certificates = nil
		text := fmt.Sprintf("the %d certificates listed by issuer and serial; the full corpus is in the appendix", n)
		if s.IsEmpty() {
			return text
		}
		return text + ", narrowed by: " + selector(s)
	}
	return selector(s) + "; the full corpus is in the appendix"
}

// selector prints a scope as the JSON that the campaign was planned from: a machine reads it, and so does a person.
func selector(s bulkhead.Scope) string {
	p, err := json.Marshal(s)
	if err != nil { // it came from JSON
		return ""
	}
	return strings.TrimSpace(string(p))
}
