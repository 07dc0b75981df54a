package scan

import (
	"slices"

	"bulkhead"
)

// The parts of SARIF 2.1.0 (OASIS, section 3) that a scan fills.
type (
	sarifText struct {
		Text string `json:"text"`
	}
	sarifMessage = sarifText
	sarifRule    struct {
		ID    string    `json:"id"`
		Short sarifText `json:"shortDescription"`
	}
	sarifLocation struct {
		Physical struct {
			Artifact struct {
				URI string `json:"uri"`
			} `json:"artifactLocation"`
		} `json:"physicalLocation"`
	}
	sarifResult struct {
		RuleID     string          `json:"ruleId"`
		RuleIndex  int             `json:"ruleIndex"`
		Kind       string          `json:"kind"`
		Level      string          `json:"level"`
		Message    sarifMessage    `json:"message"`
		Locations  []sarifLocation `json:"locations"`
		Properties map[string]any  `json:"properties"`
	}
	sarifRun struct {
		Tool struct {
			Driver struct {
				Name    string      `json:"name"`
				Version string      `json:"version"`
				Rules   []sarifRule `json:"rules"`
			} `json:"driver"`
		} `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
)

// Report is a SARIF document.
type Report struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

// sarifKinds are kind and level of each verdict; what was not seen is open, never a pass (SARIF 3.27.9).
var sarifKinds = map[bulkhead.Verdict][2]string{
	bulkhead.Vulnerable: {"fail", "error"}, bulkhead.Patched: {"pass", "none"}, bulkhead.NotSupported: {"pass", "none"},
	bulkhead.Unreachable: {"open", "none"}, bulkhead.Inconclusive: {"open", "none"},
}

var sarifLevels = map[bulkhead.Severity]string{bulkhead.Critical: "error", bulkhead.Warning: "warning", bulkhead.Notice: "note"}

// SARIF reports one result for each endpoint, rule CVE-2014-0160, and one for each finding.
func SARIF(all []Result, version string) Report {
	var run sarifRun
	run.Tool.Driver.Name, run.Tool.Driver.Version, run.ColumnKind = "bulkhead scan", version, "utf16CodeUnits"
	run.Tool.Driver.Rules = []sarifRule{{ID: "CVE-2014-0160", Short: sarifText{"The server returns memory to strangers (Heartbleed)."}}}
	run.Results = []sarifResult{}
	add := func(rule, kind, level, uri, message string, props map[string]any) {
		at := slices.IndexFunc(run.Tool.Driver.Rules, func(r sarifRule) bool { return r.ID == rule })
		if at < 0 {
			at = len(run.Tool.Driver.Rules)
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, sarifRule{ID: rule, Short: sarifText{ruleWords[rule]}})
		}
		var loc sarifLocation
		loc.Physical.Artifact.URI = uri
		run.Results = append(run.Results, sarifResult{RuleID: rule, RuleIndex: at, Kind: kind, Level: level, Message: sarifMessage{message}, Locations: []sarifLocation{loc}, Properties: props})
	}
	for _, r := range all {
		if len(r.Endpoints) == 0 {
			k := sarifKinds[r.Verdict]
			add("CVE-2014-0160", k[0], k[1], uriOf(r, ""), r.Detail, map[string]any{"target": r.Target, "verdict": r.Verdict, "reason": r.Reason})
		}
		for _, e := range r.Endpoints {
			k := sarifKinds[e.Verdict]
			uri := uriOf(r, e.Endpoint.AddrPort().String())
			add("CVE-2014-0160", k[0], k[1], uri, e.Verdict.Means()+" "+e.Detail, map[string]any{"target": r.Target, "address": e.Endpoint.AddrPort().String(), "verdict": e.Verdict, "reason": e.Reason})
			for _, f := range e.Findings {
				add(f.Rule, "fail", sarifLevels[f.Severity], uri, f.Message, map[string]any{"target": r.Target, "address": e.Endpoint.AddrPort().String()})
			}
		}
	}
	return Report{Schema: "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run}}
}

func uriOf(r Result, addrPort string) string {
	scheme := "tls"
	if r.STARTTLS != bulkhead.NoSTARTTLS {
		scheme = string(r.STARTTLS)
	}
	if addrPort == "" {
		return scheme + "://" + r.Host
	}
	return scheme + "://" + addrPort
}
