package run

import (
	"strings"
	"testing"
	"time"
)

// TestRetentionKeys refuses what would send to nowhere or forget too early, and takes what is whole.
func TestRetentionKeys(t *testing.T) {
	mail := func(c *Config) {
		c.ExpiryNotices.To.Mail.SMTP, c.ExpiryNotices.To.Mail.From = "relay.test:587", "ca@example.test"
	}
	for what, x := range map[string]struct {
		change func(c *Config)
		want   string // "" for no complaint
	}{
		"default": {func(*Config) {}, ""},
		"mail":    {mail, ""},
		"mail with password": {func(c *Config) {
			mail(c)
			c.ExpiryNotices.To.Mail.User, c.ExpiryNotices.To.Mail.PasswordFile = "ca", "relay.secret"
		}, ""},
		"webhook":               {func(c *Config) { c.ExpiryNotices.To.Webhook = "https://hook.test/x" }, ""},
		"longer retention":      {func(c *Config) { c.Retention = Duration(3000 * 24 * time.Hour) }, ""},
		"short retention":       {func(c *Config) { c.Retention = Duration(729 * 24 * time.Hour) }, "retention"},
		"no threshold":          {func(c *Config) { c.ExpiryNotices.Before = nil }, "expiry_notices.before"},
		"threshold of a minute": {func(c *Config) { c.ExpiryNotices.Before = []Duration{Duration(time.Minute)} }, "expiry_notices.before"},
		"webhook to a file":     {func(c *Config) { c.ExpiryNotices.To.Webhook = "file:///x" }, "expiry_notices.to.webhook"},
		"mail from nobody":      {func(c *Config) { mail(c); c.ExpiryNotices.To.Mail.From = "" }, "expiry_notices"},
		"relay without port":    {func(c *Config) { mail(c); c.ExpiryNotices.To.Mail.SMTP = "relay.test" }, "expiry_notices"},
		"unknown language":      {func(c *Config) { mail(c); c.ExpiryNotices.Language = "xx" }, "expiry_notices"},
		"bad operator":          {func(c *Config) { mail(c); c.ExpiryNotices.Operator = "a@b.test\nBcc: c@d.test" }, "expiry_notices"},
		"user alone":            {func(c *Config) { mail(c); c.ExpiryNotices.To.Mail.User = "ca" }, "expiry_notices.to.mail"},
		"password in the clear": {func(c *Config) {
			mail(c)
			c.ExpiryNotices.To.Mail.User, c.ExpiryNotices.To.Mail.PasswordFile, c.ExpiryNotices.To.Mail.StartTLS = "ca", "relay.secret", false
		}, "expiry_notices.to.mail"},
	} {
		c := DefaultConfig()
		x.change(&c)
		err := c.Check()
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%s: %v, want %q", what, err, x.want)
		}
	}
}
