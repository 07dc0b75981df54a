package run

import (
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"time"

	"bulkhead"
	"bulkhead/ct"
	"bulkhead/pki/sct"
	"bulkhead/signer"
)

// logs are the configured logs, checked.
func (c CT) logs() ([]ct.Log, error) {
	var out []ct.Log
	for _, l := range c.Logs {
		key, err := base64.StdEncoding.DecodeString(l.Key)
		if err == nil {
			_, err = x509.ParsePKIXPublicKey(key)
		}
		if err != nil || l.Name == "" || l.Operator == "" || l.URL == "" {
			return nil, wrong("ct.logs", "log %q lacks a name, an operator, an address or a readable key", l.Name)
		}
		log := ct.Log{URL: l.URL, Log: sct.Log{Name: l.Name, Operator: l.Operator, Key: key, Tiled: l.Tiled}}
		for text, at := range map[string]*time.Time{l.From: &log.From, l.Until: &log.Until} {
			if text == "" {
				continue
			}
			if *at, err = time.Parse(time.DateOnly, text); err != nil {
				return nil, wrong("ct.logs", "log %q: %q is not a date like 2027-01-01", l.Name, text)
			}
		}
		out = append(out, log)
	}
	return out, nil
}

// transparency is what the signer needs for profiles with timestamps; nothing without logs.
func (h *House) transparency() (signer.Transparency, []sct.Log, error) {
	logs, err := h.cfg.CT.logs()
	if err != nil || len(logs) == 0 {
		for _, p := range h.book.known() {
			if p.Logs > 0 && err == nil {
				return nil, nil, bulkhead.Faultf(bulkhead.KindUsage, "profile %s wants timestamps, and ct.logs is empty", p.Name).WithHint("name the logs in " + ConfigFile)
			}
		}
		return nil, nil, err
	}
	client, err := ct.New(ct.Config{Logs: logs, AllowPrivate: h.cfg.CT.AllowPrivate, Now: h.now, Log: h.log.With(slog.String("role", "ct"))})
	if err != nil {
		return nil, nil, err
	}
	trusted := make([]sct.Log, len(logs))
	for i, l := range logs {
		trusted[i] = l.Log
	}
	return client, trusted, nil
}
