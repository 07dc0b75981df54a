package run

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/ct"
	"bulkhead/proof"
	"bulkhead/signer/signerrpc"
)

// CTMonitor names a static-ct-api log that the watch role reads.
type CTMonitor struct {
	// Name of the log, for people.
	Name string `yaml:"name"`
	// URL is the monitoring prefix of the operator's list.
	URL string `yaml:"url"`
	// Origin is the first line of the log's checkpoint; empty takes the submission prefix, which for many logs is the
	// monitoring prefix, without its scheme.
	Origin string `yaml:"origin,omitempty"`
	// Key is the log's public key: DER SubjectPublicKeyInfo, base64, as in the lists of logs.
	Key string `yaml:"key"`
	// FromStart reads the log from its first entry; otherwise from where it stands at the first look.
	FromStart bool `yaml:"from_start,omitempty"`
}

// monitored are the configured logs, checked.
func (c CT) monitored() ([]ct.MonitoredLog, error) {
	var out []ct.MonitoredLog
	names := map[string]bool{}
	for _, l := range c.Monitor {
		key, err := base64.StdEncoding.DecodeString(l.Key)
		if err != nil || l.Name == "" || names[l.Name] || l.URL == "" {
			return nil, wrong("ct.monitor", "log %q lacks a name of its own, an address or a readable key", l.Name)
		}
		names[l.Name] = true
		origin := l.Origin
		if u, err := url.Parse(l.URL); origin == "" && err == nil {
			origin = strings.TrimRight(strings.ToLower(u.Host)+u.Path, "/")
		}
		out = append(out, ct.MonitoredLog{Name: l.Name, URL: l.URL, Origin: origin, Key: key, FromStart: l.FromStart})
	}
	return out, nil
}

func (c CT) check() error {
	if d := time.Duration(c.MonitorEvery); d != 0 && (d < 100*time.Millisecond || d > 24*time.Hour) {
		return wrong("ct.monitor_every", "%s is not within 100ms and 24h", d)
	}
	_, err := c.monitored()
	return err
}

// openMonitor makes what reads transparency logs, where the watch role is.
func (h *House) openMonitor(context.Context, seed) error {
	if len(h.cfg.CT.Monitor) == 0 || !h.roles.has(signerrpc.Watch) {
		return nil
	}
	logs, err := h.cfg.CT.monitored()
	if err != nil {
		return err
	}
	h.monitor, err = ct.NewMonitor(ct.MonitorConfig{Logs: logs, Record: h.store, Now: h.now, Raise: h.watch.Raise, Every: time.Duration(h.cfg.CT.MonitorEvery),
		AllowPrivate: h.cfg.CT.AllowPrivate, Log: h.log.With(slog.String("role", "ct"))})
	return err
}

// looked is what the proof says of transparency logs.
func looked(ctx context.Context, cfg Config, store Store) ([]proof.CTLog, error) {
	have, err := store.CTMonitors(ctx)
	if err != nil {
		return nil, err
	}
	logs, err := cfg.CT.monitored()
	if err != nil {
		return nil, err
	}
	out := []proof.CTLog{}
	for _, m := range have {
		out = append(out, proof.CTLog{Name: m.Log, First: m.First, Read: m.Read, Size: m.Size, Root: m.Root, At: m.At, Ours: m.Ours, Unknown: m.Unknown})
	}
	for _, l := range logs {
		if !read(have, bulkhead.Digest(l.Key)) {
			out = append(out, proof.CTLog{Name: l.Name})
		}
	}
	return out, nil
}

func read(have []bulkhead.CTMonitor, id bulkhead.Hash) bool {
	for _, m := range have {
		if m.ID == id {
			return true
		}
	}
	return false
}
