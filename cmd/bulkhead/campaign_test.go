package main

import (
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/console"
)

// TestToldLater: customers who wait for an own estate that is done are named, and nobody else.
func TestToldLater(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	later := now.Add(time.Hour)
	v := console.CampaignView{State: bulkhead.CampaignRunning, OwnEstate: &console.OwnEstate{Certificates: 2, Replaced: 2, Clean: true}}
	plan := console.PlanView{Waves: []console.WaveView{{FirstNotice: now.Add(-time.Hour)}, {FirstNotice: later.Add(time.Hour)}, {FirstNotice: later}}}
	if got := toldLater(v, plan, now); !got.Equal(later) {
		t.Errorf("told from %s, want %s", got, later)
	}
	if got := toldLater(v, plan, later.Add(2*time.Hour)); !got.IsZero() {
		t.Errorf("everybody is told already; got %s", got)
	}
	for what, change := range map[string]func(*console.CampaignView){
		"paused":       func(v *console.CampaignView) { v.State = bulkhead.CampaignPaused },
		"not done":     func(v *console.CampaignView) { v.OwnEstate = &console.OwnEstate{Certificates: 2, Replaced: 1} },
		"no estate":    func(v *console.CampaignView) { v.OwnEstate = &console.OwnEstate{Clean: true} },
		"nothing seen": func(v *console.CampaignView) { v.OwnEstate = nil },
	} {
		x := v
		change(&x)
		if got := toldLater(x, plan, now); !got.IsZero() {
			t.Errorf("%s: told from %s", what, got)
		}
	}
}

// TestHeldAreToldByHand: the status of a campaign says that holders of what is on legal hold get no letter, and who they are; it is silent
// where nothing is on hold.
func TestHeldAreToldByHand(t *testing.T) {
	v := console.CampaignView{ID: "k1", Progress: &console.CampaignProgress{Total: 3, ByState: map[bulkhead.ItemState]int64{bulkhead.ItemHeld: 2, bulkhead.ItemNotified: 1}}}
	if text := campaignText(v); !strings.Contains(text, "2 on legal hold: their holders get no letter") || !strings.Contains(text, "bulkhead campaign items k1 --state held") {
		t.Error(text)
	}
	v.Progress.ByState = map[bulkhead.ItemState]int64{bulkhead.ItemNotified: 3}
	if text := campaignText(v); strings.Contains(text, "legal hold") {
		t.Error(text)
	}
}
