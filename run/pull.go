package run

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/watch"
)

// How sightings are fetched from edges that are processes of their own.
const (
	pullEvery   = 2 * time.Second
	pullTimeout = 10 * time.Second
	maxPull     = 16 << 20        // a full page of sightings has some two megabytes
	blindAfter  = 5 * time.Minute // without an answer, a source is an alarm
)

func (w Watch) checkSightings() error {
	for _, s := range w.Sightings {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
			return wrong("watch.sightings", "%q is not the address of a metrics listener, like http://10.0.0.5:14090", s)
		}
	}
	return nil
}

// source is one process whose sightings are fetched.
type source struct {
	base    string
	process string // that numbered them
	after   int64
	good    time.Time // when it last answered
}

// runPull fetches what edges saw, and hands it to the detectors, until ctx ends.
func (h *House) runPull(ctx context.Context) error {
	client := &http.Client{Timeout: pullTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	sources := make([]*source, len(h.cfg.Watch.Sightings))
	for i, s := range h.cfg.Watch.Sightings {
		sources[i] = &source{base: strings.TrimRight(s, "/"), good: h.now()}
	}
	look := func() {
		for _, s := range sources {
			if err := h.pull(ctx, client, s); err != nil && ctx.Err() == nil {
				h.log.WarnContext(ctx, "sightings could not be fetched", slog.String("from", s.base), slog.String("error", err.Error()))
				if h.now().Sub(s.good) > blindAfter {
					h.raise(ctx, bulkhead.Alarm{Detector: "watch", Key: "blind," + s.base, Severity: bulkhead.Warning, Runbook: "watch.md",
						Message: fmt.Sprintf("what %s saw cannot be fetched since %s: whoever asks there for serials that we never issued is not seen", s.base, s.good.UTC().Format(time.RFC3339))})
				}
			}
		}
	}
	look()
	return every(ctx, pullEvery, look)
}

// pull takes everything that a source has. Sightings that it had to drop are an alarm.
func (h *House) pull(ctx context.Context, client *http.Client, s *source) error {
	for {
		page, err := fetchSightings(ctx, client, s)
		if err != nil {
			return err
		}
		s.good = h.now()
		if page.Process != s.process { // it was started anew, and counts anew
			again := s.process != "" && s.after > 0
			s.process, s.after = page.Process, 0
			if again {
				continue
			}
		}
		if len(page.Sightings) > 0 && page.First > s.after+1 {
			h.raise(ctx, bulkhead.Alarm{Detector: "watch", Key: "dropped," + s.base, Severity: bulkhead.Warning, Runbook: "watch.md",
				Message: fmt.Sprintf("%s dropped %d sightings before they were fetched", s.base, page.First-s.after-1)})
		}
		for _, x := range page.Sightings {
			h.watch.See(x)
		}
		s.after = page.First + int64(len(page.Sightings)) - 1
		if len(page.Sightings) == 0 {
			s.after = max(page.First-1, 0)
			return nil
		}
	}
}

// fetchSightings asks once. The answer is held to what an edge can see: nothing else is passed on.
func fetchSightings(ctx context.Context, client *http.Client, s *source) (seen, error) {
	var page seen
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/sightings?after=%d", s.base, s.after), nil)
	if err != nil {
		return page, err
	}
	res, err := client.Do(req)
	if err != nil {
		return page, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return page, bulkhead.Faultf(bulkhead.KindUnavailable, "%s answered %s", s.base, res.Status)
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, maxPull+1))
	if err != nil {
		return page, err
	}
	return parseSightings(body)
}

func parseSightings(body []byte) (seen, error) {
	var page seen
	if len(body) > maxPull || json.Unmarshal(body, &page) != nil || page.First < 0 || len(page.Sightings) > sightingsKept {
		return seen{}, bulkhead.NewFault(bulkhead.KindMalformed, "what was answered is no page of sightings")
	}
	for _, x := range page.Sightings {
		if x.Kind != watch.UnassignedAsked && x.Kind != watch.BlockedKeyShown {
			return seen{}, bulkhead.Faultf(bulkhead.KindMalformed, "an edge cannot see %.40q", x.Kind)
		}
	}
	return page, nil
}
