package notice

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/mail"
	"strconv"
	"strings"

	gomail "github.com/wneessen/go-mail"

	"bulkhead"
)

// MailConfig says how mail leaves the house. Server and From are required.
type MailConfig struct {
	Server         string // HOST:PORT of a relay
	From           string
	StartTLS       bool // required when set; without it mail travels in the clear
	User, Password string
	Operator       string // told of certificates whose account has no mail contact; "" for nobody
	Language       string // en, ja, or both
	Roots          *x509.CertPool
	DKIM           crypto.Signer // key of DKIM signatures (RFC 6376), RSA or Ed25519; nil signs nothing
	DKIMSelector   string        // under _domainkey of the domain of From
}

// Mail sends mail over SMTP.
type Mail struct {
	cfg    MailConfig
	client *gomail.Client
}

// NewMail checks the configuration; it does not connect.
func NewMail(cfg MailConfig) (*Mail, error) {
	host, port, err := net.SplitHostPort(cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("notice: %q is not HOST:PORT", cfg.Server)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("notice: %q is not a port", port)
	}
	if _, ok := Address("mailto:" + cfg.From); !ok {
		return nil, fmt.Errorf("notice: %q is not a mail address", cfg.From)
	}
	if cfg.Operator != "" {
		if _, ok := Address("mailto:" + cfg.Operator); !ok {
			return nil, fmt.Errorf("notice: %q is not a mail address", cfg.Operator)
		}
	}
	if cfg.Password != "" && !cfg.StartTLS {
		return nil, errors.New("notice: a password goes over STARTTLS only")
	}
	if cfg.Language != "en" && cfg.Language != "ja" && cfg.Language != "both" {
		return nil, fmt.Errorf("notice: language %q is not en, ja or both", cfg.Language)
	}
	policy := gomail.NoTLS
	if cfg.StartTLS {
		policy = gomail.TLSMandatory
	}
	opts := []gomail.Option{gomail.WithPort(int(n)), gomail.WithTimeout(sendTimeout), gomail.WithTLSPolicy(policy),
		gomail.WithTLSConfig(&tls.Config{ServerName: host, RootCAs: cfg.Roots, MinVersion: tls.VersionTLS12})}
	if cfg.Password != "" {
		opts = append(opts, gomail.WithSMTPAuth(gomail.SMTPAuthPlain), gomail.WithUsername(cfg.User), gomail.WithPassword(cfg.Password))
	}
	if cfg.DKIM != nil {
		domain := cfg.From[strings.LastIndexByte(cfg.From, '@')+1:]
		opts = append(opts, gomail.WithAlwaysDKIMSign(gomail.NewDKIMSigner(domain, cfg.DKIMSelector, cfg.DKIM)))
	}
	c, err := gomail.NewClient(host, opts...)
	if err != nil {
		return nil, fmt.Errorf("notice: %w", err)
	}
	return &Mail{cfg: cfg, client: c}, nil
}

// Address is the address of a mailto URI without parameters (RFC 8555 section 7.3), in lower case after the @.
func Address(contact string) (string, bool) {
	text, ok := strings.CutPrefix(contact, "mailto:")
	if !ok || strings.ContainsAny(text, "?,<>\r\n \"") || len(text) > 254 {
		return "", false
	}
	a, err := mail.ParseAddress(text)
	if err != nil || a.Name != "" || a.Address != text {
		return "", false
	}
	at := strings.LastIndexByte(text, '@')
	return text[:at] + strings.ToLower(text[at:]), true
}

// Channel implements Sender.
func (*Mail) Channel() bulkhead.NoticeChannel { return bulkhead.NoticeMail }

// Recipients implements Sender: the account's mail contacts, else the operator.
func (m *Mail) Recipients(e bulkhead.Expiring) []string {
	var out []string
	seen := map[string]bool{}
	for _, c := range e.Contacts {
		if a, ok := Address(c); ok && !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	if len(out) == 0 && m.cfg.Operator != "" {
		out = append(out, m.cfg.Operator)
	}
	return out
}

// Send implements Sender.
func (m *Mail) Send(ctx context.Context, to string, x Message) error {
	subject, body := Text(m.cfg.Language, x)
	return m.SendText(ctx, to, subject, body)
}

// SendText sends a plain text to one address; it returns once the relay has accepted it.
func (m *Mail) SendText(ctx context.Context, to, subject, body string) error {
	msg := gomail.NewMsg()
	if err := errors.Join(msg.From(m.cfg.From), msg.To(to)); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	msg.Subject(subject)
	msg.SetDate()
	msg.SetMessageID()
	msg.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no robot answers it
	msg.SetBodyString(gomail.TypeTextPlain, body)
	if err := m.client.DialAndSendWithContext(ctx, msg); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	return nil
}

// most is how many certificates one message lists.
const most = 500

var texts = map[string]struct{ subject, lead, until, more, end string }{
	"en": {"%d certificates expire soon", "These certificates of %s expire soon and were not replaced. Renew those that are still in use.", "expires", "and %d more",
		"This message is automatic. It needs no answer."},
	"ja": {"まもなく期限が切れる証明書: %d 件", "%s が発行した次の証明書は、まもなく有効期限が切れますが、まだ更新されていません。使用中のものは更新してください。", "有効期限", "ほか %d 件",
		"このメールは自動送信です。返信は不要です。"},
}

// Text is the subject and the body of a message in a language: en, ja, or both.
func Text(language string, m Message) (subject, body string) {
	languages := []string{language}
	if language == "both" {
		languages = []string{"en", "ja"}
	}
	var subjects, parts []string
	for _, l := range languages {
		t := texts[l]
		subjects = append(subjects, fmt.Sprintf(t.subject, len(m.Certificates)))
		var b strings.Builder
		fmt.Fprintf(&b, t.lead+"\n\n", m.House)
		for i, c := range m.Certificates {
			if i == most {
				fmt.Fprintf(&b, t.more+"\n", len(m.Certificates)-most)
				break
			}
			fmt.Fprintf(&b, "%s\n  %s %s\n  %s %s\n", strings.Join(c.Names, ", "), c.Issuer, c.Serial, t.until, c.NotAfter.Format("2006-01-02 15:04 UTC"))
		}
		parts = append(parts, b.String()+"\n"+t.end+"\n")
	}
	return strings.Join(subjects, " / "), strings.Join(parts, "\n--\n\n")
}
