package run

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/incident"
	"bulkhead/notice"
	"bulkhead/signer/signerrpc"
)

// PartnerContact is where a registration partner is told of its own customers' certificates.
type PartnerContact struct {
	Partner string `yaml:"partner"`
	Mail    string `yaml:"mail"`
}

// openTell composes what tells people of incidents. It goes out on the ways of expiry_notices: the process of the console
// sends; that of the status service, which works on campaigns, keeps what is to be sent.
func (h *House) openTell(context.Context, seed) error {
	if !h.roles.has(signerrpc.Console, signerrpc.Status) {
		return nil
	}
	var carriers []notice.Carrier
	var err error
	if h.roles.has(signerrpc.Console) {
		if carriers, err = h.carriers(); err != nil {
			return err
		}
	}
	c := h.cfg.Incident
	cfg := notice.TellConfig{Store: h.store, Gate: ownEstateFirst{h}, Carriers: carriers, Channels: h.cfg.ExpiryNotices.channels(), Book: h.desk, PartnerContacts: map[string]string{}, Language: h.cfg.ExpiryNotices.Language, House: h.cfg.Organization,
		Domain: "bulkhead.invalid", Portal: c.Explanation, Contact: c.Contact, Product: h.product, PerHour: c.Capacity.Notices, Now: h.now}
	if h.cfg.ExternalURL != "" {
		cfg.Page = strings.TrimRight(h.cfg.ExternalURL, "/") + statusPrefix
	}
	for _, p := range c.PartnerContacts {
		cfg.PartnerContacts[p.Partner] = p.Mail
	}
	if _, domain, ok := strings.Cut(h.cfg.ExpiryNotices.To.Mail.From, "@"); ok {
		cfg.Domain = strings.ToLower(domain)
	}
	h.tell, err = notice.NewTell(cfg)
	return err
}

// channels are the ways out that are configured.
func (n ExpiryNotices) channels() []bulkhead.NoticeChannel {
	out := []bulkhead.NoticeChannel{}
	if n.To.Mail.SMTP != "" {
		out = append(out, bulkhead.NoticeMail)
	}
	if n.To.Webhook != "" {
		out = append(out, bulkhead.NoticeWebhook)
	}
	return out
}

// lettersEvery is how often the messages of campaigns are looked for.
const lettersEvery = 5 * time.Second

// runLetters sends what campaigns have to tell, where this process sends at all.
func (h *House) runLetters(ctx context.Context) error {
	if len(h.cfg.ExpiryNotices.channels()) == 0 {
		<-ctx.Done()
		return nil
	}
	return h.tell.RunCampaigns(ctx, lettersEvery, h.log.With(slog.String("role", "notice")))
}

// campaignNotices implements incident.Notifier by the messages of incidents.
type campaignNotices struct{ h *House }

// Notify implements incident.Notifier.
func (n campaignNotices) Notify(ctx context.Context, i bulkhead.Incident, c bulkhead.Campaign, accounts map[string]int64, alone int64) (map[string]incident.Reached, error) {
	got, err := n.h.tell.Call(ctx, notice.CampaignCall{Incident: i.ID, Campaign: c.ID, Generation: c.Generation, NewKey: c.Needs.NewKey, Until: c.ForceAt, Accounts: accounts, Alone: alone})
	out := make(map[string]incident.Reached, len(got))
	for id, r := range got {
		out[id] = incident.Reached(r)
	}
	return out, err
}

func (h *House) carriers() (out []notice.Carrier, err error) {
	to := h.cfg.ExpiryNotices.To
	if to.Mail.SMTP != "" {
		m, err := h.mail()
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	if to.Webhook == "" {
		return out, nil
	}
	w := notice.NewWebhook(to.Webhook)
	if to.WebhookSecretFile != "" {
		secret, err := ReadSecret(inDir(h.dir, to.WebhookSecretFile))
		if err != nil {
			return nil, err
		}
		w = w.Signed(secret)
	}
	return append(out, w), nil
}

// mail is the relay of the configuration, with its password and the key of DKIM.
func (h *House) mail() (*notice.Mail, error) {
	c := h.cfg.ExpiryNotices
	cfg := notice.MailConfig{Server: c.To.Mail.SMTP, From: c.To.Mail.From, StartTLS: c.To.Mail.StartTLS, User: c.To.Mail.User, Operator: c.Operator, Language: c.Language, DKIMSelector: c.To.Mail.DKIMSelector}
	if c.To.Mail.PasswordFile != "" {
		password, err := ReadSecret(inDir(h.dir, c.To.Mail.PasswordFile))
		if err != nil {
			return nil, err
		}
		cfg.Password = string(password)
	}
	if c.To.Mail.DKIMKeyFile != "" {
		text, err := ReadSecret(inDir(h.dir, c.To.Mail.DKIMKeyFile))
		if err != nil {
			return nil, err
		}
		if cfg.DKIM, err = dkimKey(text); err != nil {
			return nil, err
		}
	}
	return notice.NewMail(cfg)
}

func dkimKey(text []byte) (crypto.Signer, error) {
	wrong := bulkhead.NewFault(bulkhead.KindUsage, "expiry_notices.to.mail.dkim_key_file is no RSA or Ed25519 key in PKCS#8 PEM").WithHint("openssl genpkey -algorithm ed25519 -out dkim.key")
	b, _ := pem.Decode(text)
	if b == nil {
		return nil, wrong
	}
	key, err := x509.ParsePKCS8PrivateKey(b.Bytes)
	if err != nil {
		return nil, wrong.WithCause(err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, wrong
	}
	return signer, nil
}

// ownEstateFirst implements notice.Gate by the campaigns of an incident.
type ownEstateFirst struct{ h *House }

// MayTell implements notice.Gate: while a campaign of the incident has certificates of the house's own that are not
// replaced, or own endpoints that are not clean, customers wait. An incident without a campaign has no own estate to be known of.
func (g ownEstateFirst) MayTell(ctx context.Context, incident string) error {
	all, err := g.h.store.Campaigns(ctx, 1000, bulkhead.CampaignPlanned, bulkhead.CampaignRunning, bulkhead.CampaignPaused)
	if err != nil {
		return err
	}
	for _, c := range all {
		if c.Incident != incident {
			continue
		}
		why, err := g.h.desk.MayTellCustomers(ctx, c)
		if err != nil {
			return err
		}
		if why != "" {
			return bulkhead.NewFault(bulkhead.KindGate, why).WithHint("bulkhead campaign status " + c.ID + "; bulkhead scan own-estate")
		}
	}
	return nil
}

// teller is telling people, for the console.
type teller struct{ *notice.Tell }

func announcement(a bulkhead.Announcement) notice.Announcement {
	return notice.Announcement{Incident: a.Incident, Step: a.Step, Day: a.Day, What: notice.Words{EN: a.WhatEN, JA: a.WhatJA}, Do: notice.Words{EN: a.DoEN, JA: a.DoJA}, Until: a.Until}
}

// DraftNotices implements console.Notices.
func (t teller) DraftNotices(ctx context.Context, actor string, a bulkhead.Announcement) ([]bulkhead.IncidentNotice, error) {
	_, m, err := t.Draft(ctx, actor, announcement(a))
	return m, err
}

// PlanNotices implements console.Notices.
func (t teller) PlanNotices(ctx context.Context, actor string, a bulkhead.Announcement) ([]bulkhead.IncidentNotice, error) {
	_, m, err := t.Plan(ctx, actor, announcement(a))
	return m, err
}

// PreviewNotice implements console.Notices.
func (t teller) PreviewNotice(ctx context.Context, actor string, a bulkhead.Announcement, account, language string) (subject, body string, err error) {
	return t.Preview(ctx, actor, announcement(a), account, language)
}

// Where the public page lies, and how old what it shows may be.
const (
	statusPrefix = "/status/"
	statusAge    = time.Second
)

// publicPage serves the status page and its feed. What it showed last it goes on showing while the record is away: on a
// bad day the page is what people look at.
type publicPage struct {
	h        *House
	mu       sync.Mutex
	at       time.Time
	by       map[string][]byte            // path → body
	products map[string]concernedProducts // by incident
}

// ServeHTTP implements http.Handler.
func (p *publicPage) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	files := p.files(r.Context())
	body, ok := files[r.URL.Path]
	if !ok {
		http.NotFound(rw, r)
		return
	}
	kind := "text/html; charset=utf-8"
	if strings.HasSuffix(r.URL.Path, ".atom") {
		kind = "application/atom+xml; charset=utf-8"
	}
	rw.Header().Set("Content-Type", kind)
	rw.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	rw.Header().Set("X-Content-Type-Options", "nosniff")
	rw.Header().Set("Cache-Control", "public, max-age=60")
	_, _ = rw.Write(body) // the reader went away: nothing is to be done
}

func (p *publicPage) files(ctx context.Context) map[string][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.h.now(); p.by != nil && now.Sub(p.at) < statusAge {
		return p.by
	}
	fresh, err := p.render(ctx)
	if err != nil {
		p.h.log.WarnContext(ctx, "the status page shows what it showed before", "error", err.Error())
		return p.by
	}
	p.by, p.at = fresh, p.h.now()
	return p.by
}

func (p *publicPage) render(ctx context.Context) (map[string][]byte, error) {
	steps, err := p.h.store.NoticeSteps(ctx, "")
	if err != nil {
		return nil, err
	}
	var all []notice.Public
	at := map[string]int{}
	for _, s := range steps {
		if _, _, _, own := notice.ParseCampaignStep(s.Step); own { // letters to those concerned; what everybody may read, people write
			continue
		}
		n, seen := at[s.Incident]
		if !seen {
			i, err := p.h.store.Incident(ctx, s.Incident)
			if err != nil {
				return nil, err
			}
			n, at[s.Incident] = len(all), len(all)
			all = append(all, notice.Public{Incident: i})
		}
		all[n].Steps = append(all[n].Steps, s)
	}
	for n := range all {
		if all[n].Products, err = p.concerned(ctx, all[n].Incident.ID); err != nil {
			return nil, err
		}
	}
	site := notice.Site{House: p.h.cfg.Organization, Base: strings.TrimRight(p.h.address, "/") + strings.TrimSuffix(statusPrefix, "/")}
	out := map[string][]byte{}
	for language, path := range map[string]string{"en": statusPrefix, "ja": statusPrefix + "ja/"} {
		out[path] = notice.Page(language, site, all)
		if out[path+"feed.atom"], err = notice.Feed(language, site, all); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// concerned is of which products the certificates of an incident are, by the record. It is looked up once for each count of
// its scope, for the page is everybody's and a count of a million rows is not.
func (p *publicPage) concerned(ctx context.Context, incident string) ([]string, error) {
	counts, err := p.h.desk.Counts(ctx, incident)
	if err != nil || len(counts) == 0 {
		return nil, err
	}
	newest := counts[len(counts)-1]
	if known, is := p.products[incident]; is && known.number == newest.Number {
		return known.products, nil
	}
	t, err := p.h.desk.Tally(ctx, incident)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for name := range t.LiveByProfile {
		if p.h.profile(name) != nil { // those of authorities and delegates have none
			seen[p.h.product(name)] = true
		}
	}
	if _, is := t.LiveByKind[bulkhead.CACertificate]; is {
		seen["ca"] = true
	}
	products := slices.Sorted(maps.Keys(seen))
	if p.products == nil {
		p.products = map[string]concernedProducts{}
	}
	p.products[incident] = concernedProducts{newest.Number, products}
	return products, nil
}

// concernedProducts are those of a count of the scope.
type concernedProducts struct {
	number   int
	products []string
}
