package main

import (
	"encoding/json"
	"strings"
	"testing"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/scan/probe/probetest"
)

// TestScanOwnEstate: the house's own listener is looked at whole and is clean; one site with the fault is exit 3 (S4-6). The
// inventory is every name that was issued.
func TestScanOwnEstate(t *testing.T) {
	c := houseUp(t)
	doc := asJSON[scanDoc](t, c, "scan", "own-estate")
	if len(doc.Targets) != 1 || doc.Targets[0].Verdict != bulkhead.NotSupported || len(doc.Targets[0].Endpoints[0].Chain.DER) < 2 {
		t.Fatalf("%+v", doc)
	}
	// The house of the tests bakes a status address at which nobody answers: nothing else is wrong with it.
	if f := doc.Targets[0].Endpoints[0].Findings; len(f) != 1 || f[0].Rule != "status-missing" || len(doc.Targets[0].Endpoints[0].Status) != 4 {
		t.Errorf("%+v", doc.Targets[0].Endpoints[0])
	}
	var bad string
	for _, b := range probetest.Behaviours() {
		if b.Verdict == bulkhead.Vulnerable && b.STARTTLS == "" && b.SNI == "" {
			bad = serveBehaviour(t, b)
			break
		}
	}
	_, talk := c.run(t, exitRefused, "scan", "own-estate", "--file", c.file(t, "sites", bad+"\n", 0o600))
	if !strings.Contains(talk, "1 vulnerable") {
		t.Error(talk)
	}
	// The record knew the listener: its key is the one of before, and what was seen once is one entry.
	out, _ := c.run(t, exitDone, "scan", "own-estate", "--json")
	if !strings.Contains(out, `"rule": "key-unchanged"`) {
		t.Error(out)
	}
	known := asJSON[console.LookList](t, c, "scan", "history", doc.Targets[0].Host)
	if n := len(known.Looks); n != 2 || known.Looks[1].Looks != 3 || known.Looks[0].Verdict != bulkhead.Vulnerable { // the planted site has the same address
		t.Errorf("%d entries: %+v", n, known)
	}
	c.run(t, exitDone, "issue", "localhost", "--out", c.work)
	_, port, _ := strings.Cut(serveBehaviour(t, probetest.Behaviour{}), ":")
	out, _ = c.run(t, exitPartly, "scan", "--inventory", "--port", port, "--json", "--retries", "0")
	var all scanDoc
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	found := false // [::1] of the listener's certificate refuses: not seen
	for _, r := range all.Targets {
		found = found || r.Target == "localhost:"+port
	}
	if !found {
		t.Errorf("localhost is not in the inventory: %s", out)
	}
}
