package notice_test

import (
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/notice"
)

// TestPage holds the public page and the feed against what people reviewed; what a stranger could have written is no markup,
// and an incident of which nobody was told is not there.
func TestPage(t *testing.T) {
	site := notice.Site{House: "Example CA", Base: "https://ca.test/status"}
	all := []notice.Public{{Incident: bulkhead.Incident{ID: "secret", State: bulkhead.IncidentOpen, Title: "not yet disclosed"}},
		{Incident: bulkhead.Incident{ID: "i1", State: bulkhead.IncidentOpen, Title: "internal words"}, Products: []string{"smime", "tls"}, Steps: []bulkhead.NoticeStep{
			{Incident: "i1", Step: "first", Day: "key-compromise", What: whatJSON, Do: doJSON, Until: start.Add(24 * time.Hour), At: start},
			{Incident: "i1", Step: "over", Day: "resolved", What: `{"en":"<script>x</script>","ja":""}`, Do: doJSON, At: start.Add(48 * time.Hour)}}}}
	for _, language := range []string{"en", "ja"} {
		page := notice.Page(language, site, all)
		feed, err := notice.Feed(language, site, all)
		ok(t, err)
		for name, got := range map[string][]byte{"status." + language + ".html": page, "feed." + language + ".atom": feed} {
			path := filepath.Join("testdata", name)
			if *update {
				ok(t, os.WriteFile(path, got, 0o644))
			}
			want, err := os.ReadFile(path)
			ok(t, err)
			if string(got) != string(want) {
				t.Errorf("%s differs (go test ./notice -update, then look at the diff)", path)
			}
			for _, never := range []string{"<script>", "secret", "not yet disclosed", "internal words"} {
				if strings.Contains(string(got), never) {
					t.Errorf("%s has %q", name, never)
				}
			}
		}
		var parsed struct {
			Entries []struct {
				ID string `xml:"id"`
			} `xml:"entry"`
		}
		ok(t, xml.Unmarshal(feed, &parsed))
		if len(parsed.Entries) != 2 || !strings.HasSuffix(parsed.Entries[0].ID, "#i1-over") {
			t.Errorf("%+v", parsed)
		}
	}
	if page := string(notice.Page("en", site, nil)); !strings.Contains(page, "No incident is known.") {
		t.Error(page)
	}
}
