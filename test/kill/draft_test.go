package kill

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
	"bulkhead/store/storetest/pgtest"
)

const (
	drafted   = 40 // certificates of a draft
	draftPart = 4  // of one part
)

// draftSteps are the moments of a draft that is filled by a list at which the server is killed: after so many parts were
// acknowledged, with the next on its way; at the last, while it is previewed. draftSampled are those without BULKHEAD_TORTURE.
var (
	draftSteps   = []int{0, 1, 2, 3, 5, 7, 9, drafted / draftPart}
	draftSampled = []int{2, drafted / draftPart}
)

// querySteps are the leaves after which the server is killed while a query fills a draft; the first without BULKHEAD_TORTURE.
var querySteps = []bulkhead.EvidenceKind{bulkhead.EvChangePlanned, bulkhead.EvChangePreviewed}

// TestKillDraftSQLite kills the server while a change of many certificates is being filled, by a list that a client sends in
// parts and by a query. What comes back holds whole parts, all that were acknowledged among them; the client can go on where
// it was, or throw the change away; nothing of it is public; and fsck finds nothing.
func TestKillDraftSQLite(t *testing.T) {
	t.Parallel()
	killDrafts(t, slow{"fsync,fdatasync", 10 * time.Millisecond})
}

// TestKillDraftPostgreSQL does the same where the record is behind a socket.
func TestKillDraftPostgreSQL(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "dsn")
	ok(t, os.WriteFile(file, []byte(pgtest.New(t)+"\n"), 0o600))
	killDrafts(t, slow{"write", time.Millisecond}, "--store", "postgres:"+file)
}

func killDrafts(t *testing.T, s slow, flags ...string) {
	h := newHouse(t, flags...)
	x := &changing{house: h, driver: &driver{t: t}, slow: s, crls: map[string]bulkhead.CRLRecord{}, killed: map[bulkhead.EvidenceKind]int{}}
	x.furnish()
	c := x.client()
	var serials []bulkhead.Serial
	for i := range drafted {
		one := x.issue(c, fmt.Sprintf("d%d.test", i), false)
		if one == nil {
			t.Fatalf("no certificate: %v", x.odd)
		}
		serials = append(serials, one.ref.Serial)
	}
	midway := 0
	for _, step := range draftSteps {
		if torture() || slices.Contains(draftSampled, step) {
			midway += x.killList(step, serials)
		}
	}
	for i, step := range querySteps {
		if i == 0 || torture() {
			x.killQuery(step)
		}
	}
	if midway == 0 {
		t.Error("no draft was killed before its preview was there: this tested nothing")
	}
	for _, one := range x.all {
		row, _, err := x.store.Certificate(context.Background(), one.ref)
		ok(t, err)
		if row.State != bulkhead.Issued {
			t.Errorf("%s is %s: nobody approved anything", one.ref, row.State)
		}
	}
	x.house.stop()
	x.fsck()
}

func (x *changing) client() *client.Client {
	x.house.t.Helper()
	c, err := client.New(client.Options{Dir: x.dir})
	ok(x.house.t, err)
	return c
}

// bounded makes one call that is bounded.
func bounded(c *client.Client, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return c.Do(ctx, http.MethodPost, path, in, out)
}

// killList fills a draft by a list, kills the server after so many parts, and lets the client go on with what comes back, or
// throw it away. It says whether the draft was without a preview when the server died.
func (x *changing) killList(step int, serials []bulkhead.Serial) (midway int) {
	t := x.house.t
	t.Helper()
	c := x.client()
	var v console.ChangeView
	ok(t, bounded(c, "/api/v1/open-changes", console.OpenChangeRequest{Why: "a long list"}, &v))
	path := "/api/v1/changes/" + url.PathEscape(v.ID)
	parts := slices.Collect(slices.Chunk(serials, draftPart))
	send := func(c *client.Client, part []bulkhead.Serial) (n console.ChangeCount, err error) {
		return n, bounded(c, path+"/items", console.ChangePart{Issuer: x.all[0].ref.Issuer, Serials: part, Reason: "superseded"}, &n)
	}
	for _, part := range parts[:step] {
		_, err := send(c, part)
		ok(t, err)
	}
	detach := x.delay()
	done := make(chan error, 1)
	go func() {
		if step == len(parts) {
			done <- bounded(c, path+"/preview", nil, nil)
			return
		}
		_, err := send(c, parts[step])
		done <- err
	}()
	time.Sleep(time.Duration(3+2*step) * time.Millisecond) // somewhere in it
	x.house.kill()
	detach()
	acked := step * draftPart
	if err := <-done; err == nil && step < len(parts) {
		acked += draftPart
	}
	x.launch()
	x.ready()
	c = x.client()
	got := x.draft(v.ID)
	if got.Count < acked || got.Count > min(drafted, (step+1)*draftPart) || got.Count%draftPart != 0 {
		t.Errorf("killed with %d certificates acknowledged: the change has %d", acked, got.Count)
	}
	if got.State == bulkhead.ChangePlanned {
		midway = 1
		for i, part := range parts { // from its beginning: it does not know what arrived
			n, err := send(c, part)
			if ok(t, err); n.Count > drafted || i == len(parts)-1 && n.Count != drafted {
				t.Errorf("after part %d the change has %d certificates", i, n.Count)
			}
		}
		ok(t, bounded(c, path+"/preview", nil, nil))
		got = x.settled(v.ID)
	}
	if got.State != bulkhead.ChangePreviewed || got.Count != drafted {
		t.Errorf("in the end the change is %s with %d certificates", got.State, got.Count)
	}
	x.discard(c, v.ID)
	return midway
}

// killQuery has a draft filled by a query, kills the server after a leaf, and throws away what comes back.
func (x *changing) killQuery(step bulkhead.EvidenceKind) {
	t := x.house.t
	t.Helper()
	x.last = x.newest(t)
	c := x.client()
	detach := x.delay()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = bounded(c, "/api/v1/scope-changes", console.ScopeChangeRequest{Scope: bulkhead.Scope{Issuers: []bulkhead.AuthorityID{x.all[0].ref.Issuer}}, Reason: "superseded", Why: "a query"}, nil) // it is killed
	}()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	id := x.await(ctx, step)
	stop()
	x.house.kill()
	detach()
	<-done
	x.launch()
	x.ready()
	if got := x.draft(id); got.State == bulkhead.ChangePreviewed && got.Count != drafted {
		t.Errorf("the change was previewed with %d certificates of %d", got.Count, drafted)
	}
	x.discard(x.client(), id)
}

// draft is a change that a kill left, which holds as many certificates as it says, and of which nothing is public.
func (x *changing) draft(id string) bulkhead.Change {
	t := x.house.t
	t.Helper()
	got, err := x.store.Change(context.Background(), id)
	ok(t, err)
	if got.State != bulkhead.ChangePlanned && got.State != bulkhead.ChangePreviewed {
		t.Errorf("the change that was being filled is %s", got.State)
	}
	items, err := x.store.ChangeItems(context.Background(), id, bulkhead.CertificateRef{}, 2*drafted)
	ok(t, err)
	if len(items) != got.Count {
		t.Errorf("the change has %d items and says %d", len(items), got.Count)
	}
	return got
}

// discard throws a change away that nobody has approved.
func (x *changing) discard(c *client.Client, id string) {
	t := x.house.t
	t.Helper()
	ok(t, bounded(c, "/api/v1/changes/"+url.PathEscape(id)+"/withdrawal", console.WithdrawRequest{Why: "a test"}, nil))
	if got, err := x.store.Change(context.Background(), id); err != nil || got.State != bulkhead.ChangeRefused {
		t.Errorf("a change that was thrown away is %s, %v", got.State, err)
	}
}
