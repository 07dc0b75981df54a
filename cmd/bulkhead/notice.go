package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

func (a *app) notice() *cobra.Command {
	c := &cobra.Command{Use: "notice", Short: "tell people of an incident: preview, plan, send, status, stale, bounce",
		Long: "Each account is told of its own certificates, each registration partner of those of its own customers, in Japanese and\nEnglish, once for each step. The page /status/ and its feed show the words of every step. How: doc/notices.md."}
	c.AddCommand(a.noticePreview(), a.noticePlan(), a.noticeSend(), a.noticeStatus(), a.noticeStale(), a.noticeBounce())
	return c
}

// announcementFlags are those of what shall be told.
func announcementFlags(c *cobra.Command, in *console.AnnouncementRequest, until *string) {
	f := c.Flags()
	f.StringVar(&in.Step, "step", "first", "name of the step: each step tells each recipient once")
	f.StringVar(&in.Day, "day", "", "kind of day: key-compromise, ca-incident, status-incident, delayed-revocation, resolved")
	f.StringVar(&in.WhatEN, "what-en", "", "what happened, in English")
	f.StringVar(&in.WhatJA, "what-ja", "", "what happened, in Japanese")
	f.StringVar(&in.DoEN, "do-en", "", "what to do, in English")
	f.StringVar(&in.DoJA, "do-ja", "", "what to do, in Japanese")
	f.StringVar(until, "until", "", "until when: 2026-01-02T15:04:05Z")
}

func readUntil(text string, to *time.Time) (err error) {
	if text == "" {
		return nil
	}
	if *to, err = time.Parse(time.RFC3339, text); err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%q is not a time", text).WithHint("--until 2026-01-02T15:04:05Z")
	}
	return nil
}

func (a *app) noticePreview() *cobra.Command {
	var in console.PreviewNoticeRequest
	var until string
	c := &cobra.Command{Use: "preview INCIDENT", Short: "show the letter that an account would get; nothing is kept or sent", Args: exactly(1, "the id of an incident"), RunE: func(c *cobra.Command, args []string) error {
		if err := readUntil(until, &in.Until); err != nil {
			return err
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		var v console.NoticeText
		if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/incidents/"+url.PathEscape(args[0])+"/notices/preview", in, &v); err != nil {
			return err
		}
		return a.show(v, "Subject: %s\n\n%s", v.Subject, v.Body)
	}}
	announcementFlags(c, &in.AnnouncementRequest, &until)
	c.Flags().StringVar(&in.Account, "account", "", "whose certificates it names; none without")
	c.Flags().StringVar(&in.Language, "lang", "both", "en, ja or both")
	return c
}

func (a *app) noticePlan() *cobra.Command {
	var in console.AnnouncementRequest
	var until string
	var dry bool
	c := &cobra.Command{Use: "plan INCIDENT", Short: "keep the words of a step and whom it tells; the page shows it, nothing is sent yet", Args: exactly(1, "the id of an incident"), RunE: func(c *cobra.Command, args []string) error {
		if err := readUntil(until, &in.Until); err != nil {
			return err
		}
		var v console.NoticePlan
		if shown, err := a.post(c.Context(), dry, "/api/v1/incidents/"+url.PathEscape(args[0])+"/notices", in, &v); shown || err != nil {
			return err
		}
		return a.show(v, "step %s: %d messages are planned; %d accounts have no contact (bulkhead notice stale)\nnext: bulkhead notice send %s --step %s", v.Step, v.Messages, v.NoContact, v.Incident, v.Step)
	}}
	announcementFlags(c, &in, &until)
	dryRunFlag(c, &dry)
	return c
}

func (a *app) noticeSend() *cobra.Command {
	var in console.SendRequest
	var dry bool
	c := &cobra.Command{Use: "send INCIDENT", Short: "send what a step planned; may be broken off and started again", Args: exactly(1, "the id of an incident"), RunE: func(c *cobra.Command, args []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		base := "/api/v1/incidents/" + url.PathEscape(args[0]) + "/notices"
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, base+"/sending", in)
		}
		start, handled := time.Now(), 0
		for {
			var v console.SendResult
			if err := cl.Do(c.Context(), http.MethodPost, base+"/sending", in, &v); err != nil {
				return err
			}
			handled += v.Handled
			in.Resend = false
			if !v.Left {
				break
			}
		}
		rate := float64(handled) / max(time.Since(start).Hours(), 1e-9)
		var v console.NoticeStatus
		if err := cl.Do(c.Context(), http.MethodGet, base, nil, &v); err != nil {
			return err
		}
		if open := openNotices(v, in.Step); open > 0 {
			a.code = exitPartly
		}
		return a.show(v, "%d messages handled, %.0f an hour\n%s", handled, rate, noticeTable(v))
	}}
	c.Flags().StringVar(&in.Step, "step", "first", "name of the step")
	c.Flags().BoolVar(&in.Resend, "resend-in-doubt", false, "also those of which it is not known whether they went out: telling twice is better than not at all")
	dryRunFlag(c, &dry)
	return c
}

// openNotices is how many messages of a step reached nobody yet, or perhaps did.
func openNotices(v console.NoticeStatus, step string) (n int64) {
	for _, c := range v.Counts {
		if c.Step == step && (c.State == bulkhead.NoticePlanned || c.State == bulkhead.NoticeSending || c.State == bulkhead.NoticeInDoubt) {
			n += c.N
		}
	}
	return n
}

func noticeTable(v console.NoticeStatus) string {
	var rows []string
	for _, c := range v.Counts {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%d", c.Step, c.Channel, c.State, c.N))
	}
	if len(rows) == 0 {
		return "nobody was told of this incident\nnext: bulkhead notice plan " + v.Incident + " --help"
	}
	return table("STEP\tCHANNEL\tSTATE\tMESSAGES", rows)
}

func (a *app) noticeStatus() *cobra.Command {
	return &cobra.Command{Use: "status INCIDENT", Short: "whom an incident told, by step, channel and state", Args: exactly(1, "the id of an incident"), RunE: func(c *cobra.Command, args []string) error {
		return get(a, c, "/api/v1/incidents/"+url.PathEscape(args[0])+"/notices", noticeTable)
	}}
}

func (a *app) noticeStale() *cobra.Command {
	return &cobra.Command{Use: "stale", Short: "contacts that reach nobody: refused for good, or none there", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/notices/stale", func(v console.NoticeList) string {
			var rows []string
			for _, m := range v.Messages {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%d\t%s", m.Account+m.Partner, m.Recipient, m.State, m.Incident, m.Items, strings.ReplaceAll(m.Problem, "\n", " ")))
			}
			if len(rows) == 0 {
				return "every message reached somebody"
			}
			return table("ACCOUNT\tCONTACT\tSTATE\tINCIDENT\tCERTIFICATES\tWHY", rows)
		})
	}}
}

func (a *app) noticeBounce() *cobra.Command {
	var dry bool
	c := &cobra.Command{Use: "bounce FILE", Short: "take a delivery report that came back (RFC 3464); - for standard input", Args: exactly(1, "a file"), RunE: func(c *cobra.Command, args []string) error {
		text, err := readText(args[0])
		if err != nil {
			return err
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		in := console.BounceRequest{Mail: text}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/notices/bounces", in)
		}
		var v console.NoticeView
		if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/notices/bounces", in, &v); err != nil {
			return err
		}
		return a.show(v, "%s was not reached: %s\nnext: bulkhead notice stale", v.Recipient, v.Problem)
	}}
	dryRunFlag(c, &dry)
	return c
}
