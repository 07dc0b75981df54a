package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestBulkFile: each of a thousand lines of a file is a request of its own (S4-4): one whose request cannot be read, and those that are
// refused, stop none of the others, and every line has its own outcome and next step. What a thousand good ones come to is held by
// incident.TestThousandReissues.
func TestBulkFile(t *testing.T) {
	c := houseUp(t)
	const n, unread = 1000, 500
	csr := c.file(t, "new.csr", "no request", 0o600)
	var lines strings.Builder
	for i := range n {
		path := csr
		if i == unread {
			path = csr + ".missing"
		}
		fmt.Fprintf(&lines, "AAAAAA-AAAAAA-AAAAAA-AAAAAA-AA,order-%d,n%d.example.test,%s\n", i, i, path)
	}
	list := c.file(t, "bulk.csv", lines.String(), 0o600)
	out, _ := c.run(t, exitPartly, "ticket", "redeem", "--file", list, "--out", t.TempDir(), "--json", "--from", "pki@example.test")
	var got struct {
		Reissues []redeemed `json:"reissues"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || len(got.Reissues) != n {
		t.Fatalf("%d outcomes: %v", len(got.Reissues), err)
	}
	for i, r := range got.Reissues {
		if r.Order != fmt.Sprintf("order-%d", i) || r.Name != fmt.Sprintf("n%d.example.test", i) || r.Error == "" || strings.Contains(r.Error, "cannot be read") != (i == unread) {
			t.Fatalf("line %d: %+v", i, r)
		}
	}
	c.run(t, exitUsage, "ticket", "redeem", "--file", c.file(t, "short.csv", "CODE,ORDER\n", 0o600))
}
