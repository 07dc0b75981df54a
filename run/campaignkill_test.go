package run

import (
	"bufio"
	"database/sql"
	"encoding/json"
	"fmt"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/incident"
	"bulkhead/notice/mailtest"
	"bulkhead/pki/tlog"
)

// campaignHouse tells this program to be the process that TestCampaignKilledHouse kills.
const campaignHouse = "BULKHEAD_CAMPAIGN_HOUSE"

// campaignChild is what that process is told.
type campaignChild struct {
	Dir, Relay, Resolver string
	Now                  time.Time
}

// config is how both processes configure the house.
func (c campaignChild) config() (Config, error) {
	cfg, err := LoadConfig(c.Dir)
	cfg.Resolver = c.Resolver
	cfg.Status.OnePerson, cfg.Status.Verifiers = 10, []string{"none"}
	cfg.ExpiryNotices.To.Mail.SMTP, cfg.ExpiryNotices.To.Mail.From, cfg.ExpiryNotices.To.Mail.StartTLS = c.Relay, "ca@house.test", false
	return cfg, err
}

// open opens the house in this process.
func (c campaignChild) open(w *world) {
	w.Helper()
	cfg, err := c.config()
	w.ok(err)
	w.at = c.Now
	w.h, err = OpenWith(w.Context(), Options{Dir: c.Dir, Config: cfg, Now: w.now})
	w.ok(err)
	w.ok(w.h.Start(w.Context()))
}

// TestCampaignHouseProcess is the process that TestCampaignKilledHouse kills; by itself it does nothing.
func TestCampaignHouseProcess(t *testing.T) {
	text := os.Getenv(campaignHouse)
	if text == "" {
		return
	}
	var c campaignChild
	w := &world{T: t, raised: map[string]bulkhead.Alarm{}}
	w.ok(json.Unmarshal([]byte(text), &c))
	c.open(w)
	go func() { _ = w.h.evidence.Run(t.Context()) }()
	os.Stdout.WriteString("works\n")
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // the parent ends it long before
		_ = w.h.desk.Tick(t.Context()) // what fails is tried again
		_, _ = w.h.tell.SendCampaigns(t.Context(), 100)
		w.pass(10 * time.Second)
	}
}

// TestCampaignKilledHouse ends a whole house by SIGKILL at seeded random moments of the day on which its campaigns revoke, and has
// another process go on. fsck, which knows nothing of campaigns, finds evidence, record and what is published in agreement after
// every kill; at the end every certificate was revoked once, and is publicly.
func TestCampaignKilledHouse(t *testing.T) {
	houses := 1
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		houses = 40
	}
	r := mrand.New(mrand.NewPCG(20260102, 1))
	for n := range houses {
		t.Run(strconv.Itoa(n), func(t *testing.T) { killHouses(t, r) })
	}
}

// killHouses is one house, whose work is done after a handful of kills.
func killHouses(t *testing.T, r *mrand.Rand) {
	const kills = 6
	w, refs, at := campaignsToKill(t)
	worked := 0
	for range kills {
		before := evidenceRows(t, at.Dir)
		killHouse(t, at, time.Duration(r.IntN(20)*r.IntN(20))*time.Millisecond) // mostly soon: a change is made in tens of milliseconds
		if evidenceRows(t, at.Dir) > before {
			worked++
		}
		fsckSays(t, at.Dir)
		at.Now = at.Now.Add(6 * time.Minute) // longer than the lease of a job
	}
	at.open(w)
	for range 3 {
		w.round()
	}
	w.publish()
	revoked := map[bulkhead.CertificateRef]int{}
	rows, err := w.h.store.EvidenceOfKinds(t.Context(), 0, []bulkhead.EvidenceKind{bulkhead.EvRevocation}, 1000)
	w.ok(err)
	for _, row := range rows {
		ev, err := tlog.Parse(row.Leaf)
		w.ok(err)
		revoked[bulkhead.CertificateRef{Issuer: ev.Authority, Serial: ev.Serial}]++
	}
	for _, ref := range refs {
		_, it, err := w.h.store.MembershipOf(t.Context(), ref)
		w.ok(err)
		if it.State != bulkhead.ItemRevoked || revoked[ref] != 1 {
			t.Errorf("%s is %s (%s) and was revoked %d times", ref, it.State, it.Detail, revoked[ref])
		}
	}
	w.ok(w.h.Close())
	fsckSays(t, at.Dir)
	t.Logf("%d of %d processes had done something when they were killed", worked, kills)
	if worked == 0 {
		t.Error("no process was killed at its work: this tested nothing")
	}
	w.db, err = sql.Open("sqlite", "file:"+filepath.Join(at.Dir, "bulkhead.db")+"?_pragma=busy_timeout(5000)")
	w.ok(err)
	defer w.db.Close()
	w.plant(`UPDATE certificates SET state = 'issued', revoked_at = 0, reason = 0 WHERE serial = (SELECT serial FROM campaign_items LIMIT 1)`)
	if findings, err := Fsck(t.Context(), at.Dir); err != nil || len(failures(findings)) == 0 {
		t.Errorf("fsck does not see a certificate of a campaign that is revoked publicly and not in the record: %v", err)
	}
}

// campaignsToKill makes a house with four campaigns, each of which revokes by a change of its own, and stops it at the moment at
// which their clocks have run out.
func campaignsToKill(t *testing.T) (*world, []bulkhead.CertificateRef, campaignChild) {
	t.Helper()
	at := campaignChild{Dir: filepath.Join(t.TempDir(), "data"), Relay: mailtest.New(t, false).Addr, Resolver: nobodyIsThere(t), Now: time.Now().UTC().Truncate(time.Second)}
	w := &world{T: t, raised: map[string]bulkhead.Alarm{}}
	made, err := firstHouse()
	w.ok(err)
	w.ok(exec.Command("cp", "-a", made, at.Dir).Run())
	w.ok(exec.Command("cp", "-a", RootDir(made), RootDir(at.Dir)).Run())
	at.open(w)
	w.db, err = sql.Open("sqlite", "file:"+filepath.Join(at.Dir, "bulkhead.db")+"?_pragma=busy_timeout(5000)")
	w.ok(err)
	defer w.db.Close()
	w.ok(w.h.store.CreateAccount(t.Context(), bulkhead.Account{ID: "customer", State: bulkhead.AccountValid, Thumbprint: "c", JWK: []byte("{}"), Contacts: []string{"mailto:pki@customer.test"}, CreatedAt: w.now()}))
	var refs []bulkhead.CertificateRef
	for n := range 4 {
		refs = append(refs, w.customers(fmt.Sprintf("one.c%d.test", n)), w.customers(fmt.Sprintf("two.c%d.test", n)))
	}
	w.publish()
	for n := range 4 {
		i, err := w.h.desk.Open(t.Context(), "operator:a", incident.Intake{Title: "a bad day", Playbook: "mass-revocation", Scope: bulkhead.Scope{Names: []string{fmt.Sprintf(".c%d.test", n)}}})
		w.ok(err)
		var plan console.CampaignView
		if code := w.call("POST", "/api/v1/campaigns", console.PlanCampaignRequest{Incident: i.ID, FinishBy: w.now().Add(150 * time.Second)}, &plan); code/100 != 2 {
			t.Fatalf("planning: %d", code)
		}
		if code := w.call("POST", "/api/v1/campaigns/"+plan.ID+"/start", console.StartCampaignRequest{PlanHash: plan.PlanHash}, nil); code/100 != 2 {
			t.Fatalf("starting: %d", code)
		}
	}
	w.pass(3 * time.Minute)
	at.Now = w.now()
	w.ok(w.h.Close())
	return w, refs, at
}

// killHouse starts a process that opens the house, and kills it some time after it began to work.
func killHouse(t *testing.T, c campaignChild, after time.Duration) {
	t.Helper()
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCampaignHouseProcess$", "-test.v=false")
	cmd.Env = append(os.Environ(), campaignHouse+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lost := time.AfterFunc(time.Minute, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer lost.Stop()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "works\n" {
		t.Fatalf("the process says %q: %v", line, err)
	}
	time.Sleep(after)
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait() // killed
}

// evidenceRows is how much evidence the record of a house that is not open has.
func evidenceRows(t *testing.T, dir string) (n int64) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "bulkhead.db")+"?_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(), `SELECT seq FROM evidence_head`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func failures(findings []console.Finding) (out []console.Finding) {
	for _, f := range findings {
		if f.Level == levelFailure {
			out = append(out, f)
		}
	}
	return out
}

// fsckSays has fsck look at a house that is not open.
func fsckSays(t *testing.T, dir string) {
	t.Helper()
	findings, err := Fsck(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if bad := failures(findings); len(bad) > 0 {
		t.Fatalf("fsck: %+v", bad)
	}
}
