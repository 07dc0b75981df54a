package incident_test

import (
	"bufio"
	"context"
	"encoding/json"
	mrand "math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/notice/mailtest"
)

// childEnv tells this program to work on a campaign until somebody kills it.
const childEnv = "BULKHEAD_CAMPAIGN_CHILD"

// child is what a process that works on a campaign is told.
type child struct {
	House onDisk
	Relay string
	Now   time.Duration // beyond the start of the house
}

// campaignOf is how both processes configure the desk.
func campaignOf(c *incident.Config) { c.Chunk, c.Together, c.Lease = 2, 1, time.Minute }

// TestCampaignProcess is the process that TestCampaignProcessKilled kills; by itself it does nothing.
func TestCampaignProcess(t *testing.T) {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	var c child
	ok(t, json.Unmarshal([]byte(text), &c))
	i := slices.IndexFunc(engines(), func(e engine) bool { return e.name == c.House.Engine })
	h := &house{t: t, start: c.House.Start, on: c.House}
	h.clock.Store(int64(c.Now))
	h.store = engines()[i].open(t, c.House.Where, nil)
	h.open(h.ring())
	p, l := &mailtest.Relay{Addr: c.Relay}, &letters{h: h}
	h.staff(campaignOf, func(cfg *incident.Config) { cfg.Notifier = l })
	l.open(p)
	os.Stdout.WriteString("works\n")
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // the parent ends it long before
		_ = h.desk.Tick(t.Context()) // what fails is tried again
		_, _ = l.tell.SendCampaigns(t.Context(), 100)
		h.pass(10 * time.Second)
	}
}

// TestCampaignProcessKilled ends a process that works on a campaign by SIGKILL, at seeded random moments of its work and of its
// start, on both stores, and has another one go on. Every item ends revoked by exactly one revocation, with exactly one ticket,
// and its holder got exactly one letter about it, or one that is in doubt by name and arrived at most once.
func TestCampaignProcessKilled(t *testing.T) {
	kills := 10
	if os.Getenv("BULKHEAD_TORTURE") != "" {
		kills = 300
	}
	for n, e := range engines() {
		t.Run(e.name, func(t *testing.T) {
			r := mrand.New(mrand.NewPCG(20260101, uint64(n)))
			for left := kills; left > 0; left -= 10 {
				t.Run(strconv.Itoa(left), func(t *testing.T) { killProcesses(t, e, r, min(left, 10)) }) // its house is closed before the next
			}
		})
	}
}

// killProcesses runs one campaign in which so many processes are killed.
func killProcesses(t *testing.T, e engine, r *mrand.Rand, kills int) {
	h, l, p := mailHouse(t, e, campaignOf)
	h.account("a0", "", "mailto:a0@a.test")
	h.account("a1", "", "mailto:a1@a.test")
	refs := h.many(4, 2)
	yes, needs := true, bulkhead.CampaignNeeds{NewKey: true}
	i := h.incident(incident.Intake{Playbook: "mass-revocation", Scope: byIssuer()})
	c := h.campaign(i, incident.PlanRequest{Tickets: &yes, Needs: &needs})
	rounds := func() {
		t.Helper()
		ok(t, h.status.Start(t.Context()))
		for range 6 {
			h.tick()
			_, err := l.tell.SendCampaigns(t.Context(), 100)
			ok(t, err)
			h.pass(2 * time.Minute)
		}
	}
	worked := 0
	for n := range kills {
		if n == kills/2 { // the clock waits for no letter: those that the kills held up are sent first
			rounds()
			h.pass(c.ForceAt.Sub(h.now()) + time.Second)
		}
		before, _, err := h.store.EvidenceHead(t.Context())
		ok(t, err)
		killed(t, child{House: h.on, Relay: p.Addr, Now: time.Duration(h.clock.Load())}, time.Duration(r.IntN(120))*time.Millisecond)
		if after, _, err := h.store.EvidenceHead(t.Context()); err != nil || after > before {
			worked++
		}
		h.pass(10 * time.Minute) // longer than any lease, and than the rounds of the one that was killed
	}
	rounds()
	h.once(i, c, refs, p)
	t.Logf("%d of %d processes had done something when they were killed", worked, kills)
	if worked == 0 {
		t.Error("no process was killed at its work: this tested nothing")
	}
}

// killed starts a process and kills it some time after it began to work.
func killed(t *testing.T, c child, after time.Duration) {
	t.Helper()
	text, err := json.Marshal(c)
	ok(t, err)
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestCampaignProcess$", "-test.v=false")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "works\n" {
		t.Fatalf("the process says %q: %v", line, err)
	}
	time.Sleep(after)
	ok(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL))
	_ = cmd.Wait() // killed
}
