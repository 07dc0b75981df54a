package console

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"bulkhead"
)

// Notices tells people of incidents.
type Notices interface {
	DraftNotices(ctx context.Context, actor string, a bulkhead.Announcement) ([]bulkhead.IncidentNotice, error)
	// PlanNotices keeps a step: its words do not change any more, and each recipient is told once.
	PlanNotices(ctx context.Context, actor string, a bulkhead.Announcement) ([]bulkhead.IncidentNotice, error)
	PreviewNotice(ctx context.Context, actor string, a bulkhead.Announcement, account, language string) (subject, body string, err error)
	// Send sends up to limit messages of a step; fewer means that none is left. KindGate while others come first.
	Send(ctx context.Context, incident, step string, limit int) (int, error)
	// Resend puts messages in doubt back.
	Resend(ctx context.Context, incident, step string) (int, error)
	Counts(ctx context.Context, incident string) ([]bulkhead.NoticeCount, error)
	Stale(ctx context.Context, after int64, limit int) ([]bulkhead.IncidentNotice, error)
	Bounced(ctx context.Context, actor string, mail []byte) (bulkhead.IncidentNotice, error)
}

func (a *API) noticeRoutes() {
	route(a, "GET /api/v1/incidents/{id}/notices", operation[none, NoticeStatus]{id: "noticeStatus", summary: "whom an incident told, by step, channel and state", do: a.noticeStatus})
	route(a, "POST /api/v1/incidents/{id}/notices", operation[AnnouncementRequest, NoticePlan]{id: "planNotices", summary: "keep a step of telling people; nothing is sent yet", do: a.planNotices, plan: a.draftNotices})
	route(a, "POST /api/v1/incidents/{id}/notices/preview", operation[PreviewNoticeRequest, NoticeText]{id: "previewNotice", summary: "the letter that an account would get; nothing is kept", do: a.previewNotice, plan: a.planPreviewNotice})
	route(a, "POST /api/v1/incidents/{id}/notices/sending", operation[SendRequest, SendResult]{id: "sendNotices", summary: "send up to limit messages of a step", do: a.sendNotices, plan: a.planSendNotices})
	route(a, "POST /api/v1/notices/bounces", operation[BounceRequest, NoticeView]{id: "noticeBounced", summary: "take a delivery report that came back", do: a.noticeBounced, plan: a.planBounced})
	route(a, "GET /api/v1/notices/stale", operation[none, NoticeList]{id: "staleContacts", summary: "messages that reached nobody: refused for good, or without a contact", do: a.staleContacts})
}

// AnnouncementRequest is what shall be told.
type AnnouncementRequest struct {
	Step   string    `json:"step"`
	Day    string    `json:"day"` // key-compromise, ca-incident, status-incident, delayed-revocation or resolved
	WhatEN string    `json:"what_en,omitempty"`
	WhatJA string    `json:"what_ja,omitempty"`
	DoEN   string    `json:"do_en,omitempty"`
	DoJA   string    `json:"do_ja,omitempty"`
	Until  time.Time `json:"until,omitzero"`
}

func (r AnnouncementRequest) of(incident string) bulkhead.Announcement {
	return bulkhead.Announcement{Incident: incident, Step: r.Step, Day: r.Day, WhatEN: r.WhatEN, WhatJA: r.WhatJA, DoEN: r.DoEN, DoJA: r.DoJA, Until: r.Until}
}

// NoticePlan is whom a step tells.
type NoticePlan struct {
	Incident  string `json:"incident"`
	Step      string `json:"step"`
	Messages  int    `json:"messages"`
	NoContact int    `json:"no_contact"` // accounts that cannot be reached by mail
}

func noticePlan(incident, step string, all []bulkhead.IncidentNotice) NoticePlan {
	p := NoticePlan{Incident: incident, Step: step}
	for _, m := range all {
		if m.State == bulkhead.NoticeNoContact {
			p.NoContact++
		} else {
			p.Messages++
		}
	}
	return p
}

func (a *API) planNotices(ctx context.Context, w who, r *http.Request, in AnnouncementRequest) (NoticePlan, error) {
	all, err := a.cfg.Notices.PlanNotices(ctx, w.actor(), in.of(r.PathValue("id")))
	return noticePlan(r.PathValue("id"), in.Step, all), err
}

func (a *API) draftNotices(ctx context.Context, w who, r *http.Request, in AnnouncementRequest) (Plan, error) {
	all, err := a.cfg.Notices.DraftNotices(ctx, w.actor(), in.of(r.PathValue("id")))
	if err != nil {
		return Plan{}, err
	}
	p := noticePlan(r.PathValue("id"), in.Step, all)
	return planOf(fmt.Sprintf("keep step %s with %d messages; %d accounts have no contact", p.Step, p.Messages, p.NoContact)), nil
}

// PreviewNoticeRequest is an announcement, and who would read it.
type PreviewNoticeRequest struct {
	AnnouncementRequest
	Account  string `json:"account,omitempty"`
	Language string `json:"language,omitempty"` // en, ja or both
}

// NoticeText is a letter.
type NoticeText struct {
	Subject string `json:"subject"`
	Body    string `json:"body"`
}

func (a *API) previewNotice(ctx context.Context, w who, r *http.Request, in PreviewNoticeRequest) (out NoticeText, err error) {
	if in.Language == "" {
		in.Language = "both"
	}
	out.Subject, out.Body, err = a.cfg.Notices.PreviewNotice(ctx, w.actor(), in.of(r.PathValue("id")), in.Account, in.Language)
	return out, err
}

func (a *API) planPreviewNotice(ctx context.Context, w who, r *http.Request, in PreviewNoticeRequest) (Plan, error) {
	_, err := a.previewNotice(ctx, w, r, in)
	return planOf("show a letter and keep nothing"), err
}

// SendRequest sends a part of a step.
type SendRequest struct {
	Step   string `json:"step"`
	Limit  int    `json:"limit,omitempty"`  // 1 to 500; 0 means 100
	Resend bool   `json:"resend,omitempty"` // first put those in doubt back: telling twice is better than not at all
}

// SendResult is what was done.
type SendResult struct {
	Handled int  `json:"handled"`
	Left    bool `json:"left"` // ask again
}

func (r *SendRequest) check() error {
	if r.Limit == 0 {
		r.Limit = 100
	}
	if r.Limit < 1 || r.Limit > 500 {
		return bulkhead.Faultf(bulkhead.KindMalformed, "limit %d is not from 1 to 500", r.Limit)
	}
	return nil
}

func (a *API) sendNotices(ctx context.Context, _ who, r *http.Request, in SendRequest) (SendResult, error) {
	if err := in.check(); err != nil {
		return SendResult{}, err
	}
	if in.Resend {
		if _, err := a.cfg.Notices.Resend(ctx, r.PathValue("id"), in.Step); err != nil {
			return SendResult{}, err
		}
	}
	n, err := a.cfg.Notices.Send(ctx, r.PathValue("id"), in.Step, in.Limit)
	return SendResult{n, n == in.Limit}, err
}

func (a *API) planSendNotices(ctx context.Context, _ who, r *http.Request, in SendRequest) (Plan, error) {
	if err := in.check(); err != nil {
		return Plan{}, err
	}
	all, err := a.cfg.Notices.Counts(ctx, r.PathValue("id"))
	var n int64
	for _, c := range all {
		if c.Step == in.Step && c.State == bulkhead.NoticePlanned {
			n += c.N
		}
	}
	return planOf(fmt.Sprintf("send %d of %d messages that are planned", min(n, int64(in.Limit)), n)).butNot("whether the relay takes them", "whether the house's own estate is replaced"), err
}

// NoticeStatus counts messages.
type NoticeStatus struct {
	Incident string            `json:"incident"`
	Counts   []NoticeCountView `json:"counts"`
}

// NoticeCountView is how many messages of a step are in a state.
type NoticeCountView struct {
	Step    string                 `json:"step"`
	Channel bulkhead.NoticeChannel `json:"channel"`
	State   bulkhead.NoticeState   `json:"state"`
	N       int64                  `json:"n"`
}

func (a *API) noticeStatus(ctx context.Context, _ who, r *http.Request, _ none) (NoticeStatus, error) {
	out := NoticeStatus{Incident: r.PathValue("id"), Counts: []NoticeCountView{}}
	all, err := a.cfg.Notices.Counts(ctx, out.Incident)
	for _, c := range all {
		out.Counts = append(out.Counts, NoticeCountView(c))
	}
	return out, err
}

// BounceRequest is a delivery report (RFC 3464), as the relay handed it back.
type BounceRequest struct {
	Mail string `json:"mail"`
}

func (a *API) noticeBounced(ctx context.Context, w who, _ *http.Request, in BounceRequest) (NoticeView, error) {
	m, err := a.cfg.Notices.Bounced(ctx, w.actor(), []byte(in.Mail))
	return noticeView(m), err
}

func (a *API) planBounced(context.Context, who, *http.Request, BounceRequest) (Plan, error) {
	return planOf("mark the message that the report quotes as bounced").butNot("whether it quotes one of ours"), nil
}

// NoticeList is messages.
type NoticeList struct {
	Messages []NoticeView `json:"messages"`
}

// NoticeView is one message to one recipient.
type NoticeView struct {
	Incident  string                 `json:"incident"`
	Step      string                 `json:"step"`
	Channel   bulkhead.NoticeChannel `json:"channel"`
	Recipient string                 `json:"recipient,omitempty"`
	Account   string                 `json:"account,omitempty"`
	Partner   string                 `json:"partner,omitempty"`
	Items     int64                  `json:"certificates"`
	State     bulkhead.NoticeState   `json:"state"`
	At        time.Time              `json:"at"`
	Problem   string                 `json:"problem,omitempty"`
}

func noticeView(m bulkhead.IncidentNotice) NoticeView {
	return NoticeView{m.Incident, m.Step, m.Channel, m.Recipient, m.Account, m.Partner, m.Items, m.State, m.MovedAt, m.Problem}
}

func (a *API) staleContacts(ctx context.Context, _ who, _ *http.Request, _ none) (NoticeList, error) {
	out := NoticeList{Messages: []NoticeView{}}
	var after int64
	for {
		rows, err := a.cfg.Notices.Stale(ctx, after, 1000)
		if err != nil {
			return out, err
		}
		for _, m := range rows {
			after = m.Seq
			out.Messages = append(out.Messages, noticeView(m))
		}
		if len(rows) < 1000 {
			return out, nil
		}
	}
}
