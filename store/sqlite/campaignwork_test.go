package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pressly/goose/v3"

	"bulkhead"
	"bulkhead/store/sqlite"
)

// TestCampaignOfEarlierVersion: a campaign that an earlier version of this program began goes on. Its items keep their places
// in the plan, and their history has the steps of both.
func TestCampaignOfEarlierVersion(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.db")
	db := file(t, path)
	p, err := goose.NewProvider(goose.DialectSQLite3, db, os.DirFS("migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 39); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`INSERT INTO campaigns VALUES (1, 'k1', 'i1', 'running', 1, x'', x'', x'7b7d', '{}', 0, 4, 2, 0, 0, 'operator:a', 'operator:a', 1, 1, 0, 0)`,
		`INSERT INTO campaign_items VALUES (1, 20, 1, 'a', x'0000000000000000000000000000000000000014', 3, 'notified', 'tls', 'x', 'o', 'late.test', x'', 0, 0, 1, 2, 3, 4, 5, 6, '', x'', 0, '', 'told', 1)`,
		`INSERT INTO campaign_items VALUES (1, 10, 2, 'a', x'000000000000000000000000000000000000000a', 3, 'planned', 'tls', 'x', 'o', 'early.test', x'', 0, 0, 1, 2, 3, 4, 5, 6, '', x'', 0, '', '', 1)`,
		`INSERT INTO campaign_steps VALUES (1, 20, 1, 'notified', 1, 7, 'told')`,
	} {
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(text, err)
		}
	}
	s, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	move := bulkhead.ItemMove{IntentSeq: 20, From: bulkhead.ItemNotified, To: bulkhead.ItemRevoked, Detail: "by change x"}
	if err := s.MoveItems(t.Context(), "k1", []bulkhead.ItemMove{move}, nil, bulkhead.Evidence{Kind: bulkhead.EvCampaignItems, At: time.Now(), Ref: "k1"}); err != nil {
		t.Fatal(err)
	}
	items, err := s.CampaignItems(t.Context(), "k1", bulkhead.CampaignItemFilter{})
	if err != nil || len(items) != 2 || items[0].Name != "late.test" || items[0].State != bulkhead.ItemRevoked || items[1].Name != "early.test" || items[1].State != bulkhead.ItemPlanned {
		t.Fatalf("%+v %v", items, err)
	}
	steps, err := s.ItemSteps(t.Context(), "k1", 20)
	if err != nil || len(steps) != 2 || steps[0].State != bulkhead.ItemNotified || steps[0].LogIndex != 6 || steps[1].State != bulkhead.ItemRevoked || steps[1].Detail != "by change x" {
		t.Fatalf("%+v %v", steps, err)
	}
}
