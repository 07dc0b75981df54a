package run

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"bulkhead/notice"
	"bulkhead/retention"
	"bulkhead/signer/signerrpc"
)

// ExpiryNotices say when and whom to tell that a certificate ends.
type ExpiryNotices struct {
	// Before is how long before the end people are told; each threshold once. One that was missed is not made up for: the
	// shortest that applies is told.
	Before []Duration `yaml:"before"`
	// Language of mails: en, ja, or both.
	Language string `yaml:"language"`
	// Operator is the mail address that is told of certificates whose account has no mail contact; empty for nobody.
	Operator string `yaml:"operator,omitempty"`
	// To is where notices go.
	To NoticeTargets `yaml:"to"`
}

// NoticeTargets are the ways on which people are told.
type NoticeTargets struct {
	// Mail goes to the mailto contacts of the certificate's account.
	Mail NoticeMail `yaml:"mail"`
	// Webhook is a URL that gets every notice as JSON by POST; redirects are not followed.
	Webhook string `yaml:"webhook,omitempty"`
	// WebhookSecretFile holds the secret with which notices of incidents are signed (Bulkhead-Signature), readable by nobody
	// else; empty signs nothing.
	WebhookSecretFile string `yaml:"webhook_secret_file,omitempty"`
}

// NoticeMail is a mail relay.
type NoticeMail struct {
	// SMTP is HOST:PORT of the relay; empty sends no mail.
	SMTP string `yaml:"smtp,omitempty"`
	// From is the sender's address.
	From string `yaml:"from,omitempty"`
	// StartTLS demands STARTTLS with a certificate that the system trusts; false sends in the clear.
	StartTLS bool `yaml:"starttls"`
	// User is the name for AUTH PLAIN, with password_file.
	User string `yaml:"user,omitempty"`
	// PasswordFile holds the relay's password, readable by nobody else; empty does not authenticate.
	PasswordFile string `yaml:"password_file,omitempty"`
	// DKIMKeyFile holds the key of DKIM signatures (RFC 6376), RSA or Ed25519 in PKCS#8 PEM, readable by nobody else; empty
	// signs nothing.
	DKIMKeyFile string `yaml:"dkim_key_file,omitempty"`
	// DKIMSelector is the selector under _domainkey of the domain of from.
	DKIMSelector string `yaml:"dkim_selector,omitempty"`
}

func defaultExpiryNotices() ExpiryNotices {
	n := ExpiryNotices{Language: "both", To: NoticeTargets{Mail: NoticeMail{StartTLS: true}}}
	for _, days := range []int{30, 14, 7, 1} {
		n.Before = append(n.Before, Duration(time.Duration(days)*24*time.Hour))
	}
	return n
}

func (n ExpiryNotices) check() error {
	if len(n.Before) == 0 || len(n.Before) > 10 {
		return wrong("expiry_notices.before", "one to ten thresholds are wanted")
	}
	for _, d := range n.Before {
		if time.Duration(d) < time.Hour {
			return wrong("expiry_notices.before", "%s is shorter than an hour", time.Duration(d))
		}
	}
	if u, err := url.Parse(n.To.Webhook); n.To.Webhook != "" && (err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "") {
		return wrong("expiry_notices.to.webhook", "it is not an http or https URL")
	}
	if m := n.To.Mail; m.SMTP != "" {
		if (m.DKIMKeyFile == "") != (m.DKIMSelector == "") {
			return wrong("expiry_notices.to.mail", "dkim_key_file and dkim_selector belong together")
		}
		if (m.User == "") != (m.PasswordFile == "") {
			return wrong("expiry_notices.to.mail", "user and password_file belong together")
		}
		if m.PasswordFile != "" && !m.StartTLS {
			return wrong("expiry_notices.to.mail", "a password goes over STARTTLS only")
		}
		if _, err := n.mail(""); err != nil {
			return wrong("expiry_notices", "%s", err)
		}
	}
	return nil
}

func (n ExpiryNotices) mail(password string) (*notice.Mail, error) {
	return notice.NewMail(notice.MailConfig{Server: n.To.Mail.SMTP, From: n.To.Mail.From, StartTLS: n.To.Mail.StartTLS, User: n.To.Mail.User, Password: password,
		Operator: n.Operator, Language: n.Language})
}

func (c Config) checkRetention() error {
	if d := time.Duration(c.Retention); d < retention.Least {
		return wrong("retention", "%s is shorter than 730d (BR 5.4.3, 5.5.2)", d)
	}
	return nil
}

func (h *House) openNotices(context.Context, seed) error {
	if !h.roles.has(signerrpc.Watch) {
		return nil
	}
	c := h.cfg.ExpiryNotices
	var senders []notice.Sender
	if c.To.Mail.SMTP != "" {
		m, err := h.relay()
		if err != nil {
			return err
		}
		senders = append(senders, m)
	}
	if c.To.Webhook != "" {
		senders = append(senders, notice.NewWebhook(c.To.Webhook))
	}
	if len(senders) == 0 {
		return nil
	}
	cfg := notice.Config{Store: h.store, Senders: senders, House: h.cfg.Organization, Alarm: h.watch.Raise, Now: h.now, Log: h.log.With(slog.String("role", "notice"))}
	for _, d := range c.Before {
		cfg.Before = append(cfg.Before, time.Duration(d))
	}
	var err error
	h.notices, err = notice.New(cfg)
	return err
}

// runNotices waits for the end where nobody is to be told.
func (h *House) runNotices(ctx context.Context) error {
	if h.notices == nil {
		<-ctx.Done()
		return nil
	}
	return h.notices.Run(ctx)
}

func (h *House) openRetention(context.Context, seed) error {
	if h.store == nil {
		return nil
	}
	var err error
	h.retention, err = retention.New(retention.Config{Store: h.store, Period: time.Duration(h.cfg.Retention), Now: h.now})
	return err
}
