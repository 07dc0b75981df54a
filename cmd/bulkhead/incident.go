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

const utcFormat = "2006-01-02 15:04:05"

func (a *app) incident() *cobra.Command {
	c := &cobra.Command{Use: "incident", Short: "the bad day: open, list, show, timeline, scope, note, hold, release, close, playbooks, mine, set, report",
		Long: "An incident says what is wrong, since when the house knows, which certificates it touches and what is due when.\nNothing is revoked by it: that is for a campaign or a change. What to type in which order: doc/incidents.md."}
	c.AddCommand(a.incidentOpen(), a.incidentList(), a.incidentShow(), a.incidentTimeline(), a.incidentScope(), a.incidentNote(), a.incidentHold(false), a.incidentHold(true), a.incidentClose(),
		a.incidentPlaybooks(), a.incidentMine(), a.incidentSet(), a.incidentReport())
	return c
}

// incidentScope are the selections of a scope.
type incidentScope struct {
	scope                      bulkhead.Scope
	issuers, keys, serials     []string
	method, vname              string
	since, until, from, before string
}

func (s *incidentScope) add(c *cobra.Command) {
	s.selections(c)
	f := c.Flags()
	f.StringArrayVar(&s.scope.Partners, "partner", nil, "of accounts that this registration partner brought")
	f.StringArrayVar(&s.serials, "serials", nil, "file with ISSUER,SERIAL a line")
}

// selections are the flags of a query that is resolved at once, without a list.
func (s *incidentScope) selections(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&s.scope.All, "all", false, "every certificate, when nothing else selects")
	f.StringArrayVar(&s.issuers, "issuer", nil, "of this authority; may be repeated, as all of these")
	f.StringArrayVar(&s.scope.Profiles, "profile", nil, "of this profile")
	f.StringArrayVar(&s.keys, "key", nil, "with this key (SHA-256 of the SubjectPublicKeyInfo)")
	f.StringArrayVar(&s.scope.Accounts, "account", nil, "of this account")
	f.StringArrayVar(&s.scope.Names, "name", nil, "with this name, or .SUFFIX for everything below")
	f.StringVar(&s.method, "method", "", "whose names were validated by this method")
	f.StringVar(&s.vname, "validated-name", "", "on a validation of this name, or .SUFFIX")
	f.StringVar(&s.since, "validated-since", "", "on a validation at this time or later: 2026-01-02T15:04:05Z, or 36h, 7d ago")
	f.StringVar(&s.until, "validated-until", "", "on a validation before this time")
	f.StringVar(&s.from, "issued-since", "", "issued at this time or later")
	f.StringVar(&s.before, "issued-before", "", "issued before this time")
}

// read turns the flags into a scope; several kinds must all hold, values of one kind are alternatives.
func (s *incidentScope) read() (bulkhead.Scope, error) {
	out := s.scope
	for _, i := range s.issuers {
		out.Issuers = append(out.Issuers, bulkhead.AuthorityID(i))
	}
	for _, k := range s.keys {
		h, err := bulkhead.ParseHash(k)
		if err != nil {
			return out, err
		}
		out.Keys = append(out.Keys, h)
	}
	for _, path := range s.serials {
		items, err := readSerials(path)
		if err != nil {
			return out, err
		}
		for _, it := range items {
			out.Certificates = append(out.Certificates, bulkhead.CertificateRef{Issuer: it.Issuer, Serial: it.Serial})
		}
	}
	var v bulkhead.ValidationScope
	v.Method, v.Name = bulkhead.Method(s.method), s.vname
	for _, x := range []struct {
		text *string
		to   *time.Time
	}{{&s.since, &v.Since}, {&s.until, &v.Until}, {&s.from, &out.IssuedFrom}, {&s.before, &out.IssuedBefore}} {
		if *x.text == "" {
			continue
		}
		if err := sinceThen(x.text); err != nil {
			return out, err
		}
		var err error
		if *x.to, err = time.Parse(time.RFC3339, *x.text); err != nil {
			return out, bulkhead.Faultf(bulkhead.KindUsage, "%q is not a time", *x.text)
		}
	}
	if v != (bulkhead.ValidationScope{}) {
		out.Validation = &v
	}
	return out, nil
}

func (a *app) incidentOpen() *cobra.Command {
	var in console.OpenIncidentRequest
	var s incidentScope
	var aware, source string
	var dry bool
	c := &cobra.Command{Use: "open", Short: "open an incident; the clock runs from --aware", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		var err error
		if in.Scope, err = s.read(); err != nil {
			return err
		}
		in.Source = bulkhead.IncidentSource(source)
		if aware != "" {
			if err := sinceThen(&aware); err != nil {
				return err
			}
			if in.AwareAt, err = time.Parse(time.RFC3339, aware); err != nil {
				return bulkhead.Faultf(bulkhead.KindUsage, "%q is not a time", aware)
			}
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/incidents", in)
		}
		var v console.IncidentView
		if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/incidents", in, &v); err != nil {
			return err
		}
		return a.show(v, "%s\nnext: bulkhead incident scope %s --help   then: bulkhead campaign plan --incident %s", incidentText(v), v.ID, v.ID)
	}}
	f := c.Flags()
	f.StringVar(&in.Title, "title", "", "what is wrong, in one sentence")
	f.StringVar(&in.Playbook, "playbook", "", "the kind of day: bulkhead incident playbooks")
	f.StringVar(&aware, "aware", "", "when the house first knew: 2026-01-02T15:04:05Z, or 2h ago; default now")
	f.StringVar(&source, "source", "", "operator, problem-report or alarm; default operator")
	f.StringVar(&in.SourceRef, "source-ref", "", "who reported, or which alarm")
	f.StringVar(&in.Cause, "cause", "", "why certificates must go, as BR 4.9.1 has it; default the playbook's, else 24 hours")
	f.StringVar(&in.Reason, "reason", "", "RFC 5280 reason for the revocations; default the playbook's")
	f.StringVar(&in.Corrects, "corrects", "", "a closed incident that this one takes up again")
	s.add(c)
	dryRunFlag(c, &dry)
	return c
}

func (a *app) incidentList() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "list incidents, newest first", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/incidents", func(v console.IncidentList) string {
			var rows []string
			for _, i := range v.Incidents {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s", i.ID, i.State, i.AwareAt.Format(utcFormat), nextDue(i), i.Title))
			}
			if len(rows) == 0 {
				return "no incidents"
			}
			return table("ID\tSTATE\tAWARE (UTC)\tNEXT DEADLINE (UTC)\tTITLE", rows)
		})
	}}
}

// nextDue is the earliest deadline to revoke.
func nextDue(i console.IncidentView) string {
	var due time.Time
	for _, d := range i.Deadlines {
		if d.Object != "report" && !d.Due.IsZero() && (due.IsZero() || d.Due.Before(due)) {
			due = d.Due
		}
	}
	if due.IsZero() {
		return "-"
	}
	return due.Format(utcFormat)
}

func incidentText(v console.IncidentView) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\nid        %s (%s)\naware     %s UTC, %s %s\ncause     %s; revoked as %s\n", strings.ToUpper(string(v.State)), v.Title, v.ID, v.Kind, v.AwareAt.Format(utcFormat), v.Source, v.SourceRef, v.Cause, v.Reason)
	for _, d := range v.Deadlines {
		if d.Due.IsZero() {
			fmt.Fprintf(&b, "due       %-12s %s\n", d.Object, d.Rule)
			continue
		}
		fmt.Fprintf(&b, "due       %-12s %s UTC  %s (%s)\n", d.Object, d.Due.Format(utcFormat), left(d.Due), d.Source)
	}
	if n := v.Numbers; n != nil {
		fmt.Fprintf(&b, "concerned %d certificates: %d live, %d revoked, %d expired; %d replaced, %d on hold\n", n.Total, n.Live, n.Revoked, n.Expired, n.Replaced, n.Held)
	}
	for _, c := range v.Counts {
		fmt.Fprintf(&b, "count %-3d %s UTC  %d certificates, %d live (%s), leaf %d\n", c.Number, c.At.Format(utcFormat), c.Items, c.Live, c.Why, c.Leaf)
	}
	for _, d := range v.Duties {
		fmt.Fprintf(&b, "on call   %s: %s (deputy %s)\n", d.Role, d.Person, d.Deputy)
	}
	return strings.TrimRight(b.String(), "\n")
}

// left says how long until t, in words for the middle of the night.
func left(t time.Time) string {
	d := time.Until(t).Round(time.Minute)
	if d < 0 {
		return fmt.Sprintf("OVERDUE by %s", -d)
	}
	return fmt.Sprintf("%s left", d)
}

func (a *app) incidentShow() *cobra.Command {
	return &cobra.Command{Use: "show ID", Short: "show an incident: deadlines, numbers, counts, who is on call", Args: exactly(1, "the id of an incident"), RunE: func(c *cobra.Command, args []string) error {
		return get(a, c, "/api/v1/incidents/"+url.PathEscape(args[0]), incidentText)
	}}
}

func (a *app) incidentTimeline() *cobra.Command {
	return &cobra.Command{Use: "timeline ID", Short: "the story from the evidence: UTC to the second, each line with its leaf", Args: exactly(1, "the id of an incident"), RunE: func(c *cobra.Command, args []string) error {
		return get(a, c, "/api/v1/incidents/"+url.PathEscape(args[0])+"/timeline", func(v console.TimelineView) string {
			var rows []string
			for _, e := range v.Entries {
				rows = append(rows, fmt.Sprintf("%s\t%d\t%s\t%s\t%s", e.At.Format(utcFormat), e.Leaf, e.Element, e.Actor, e.What))
			}
			return table("UTC\tLEAF\tELEMENT\tBY\tWHAT", rows)
		})
	}}
}

func (a *app) incidentScope() *cobra.Command {
	var s incidentScope
	var in console.IncidentScopeRequest
	var dry bool
	c := &cobra.Command{Use: "scope ID", Short: "set what is concerned and count it; without a selection, count again", Args: exactly(1, "the id of an incident"), RunE: func(c *cobra.Command, args []string) error {
		var err error
		if in.Scope, err = s.read(); err != nil {
			return err
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		base := "/api/v1/incidents/" + url.PathEscape(args[0])
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, base+"/scope", in)
		}
		var before console.IncidentView
		if err := cl.Do(c.Context(), http.MethodGet, base, nil, &before); err != nil {
			return err
		}
		var v console.ScopeCountView
		if err := cl.Do(c.Context(), http.MethodPost, base+"/scope", in, &v); err != nil {
			return err
		}
		text := fmt.Sprintf("%d certificates, %d of them live (digest %s, leaf %d)", v.Items, v.Live, v.Digest, v.Leaf)
		if n := len(before.Counts); n > 0 && before.Counts[n-1].Number != v.Number {
			old := before.Counts[n-1]
			text += fmt.Sprintf("\nIMPACT CORRECTION: before %d, counted %s UTC; now %d, found %s UTC: %s", old.Items, old.At.Format(utcFormat), v.Items, v.At.Format(utcFormat), v.Why)
		} else if n > 0 {
			text += "\nthe same certificates as before"
		}
		return a.show(v, "%s\nnext: bulkhead campaign plan --incident %s", text, args[0])
	}}
	s.add(c)
	c.Flags().StringVar(&in.Why, "why", "", "why it is counted, for the record")
	dryRunFlag(c, &dry)
	return c
}

// incidentPost posts and shows the incident afterwards.
func (a *app) incidentPost(c *cobra.Command, id, verb string, in any, dry bool) error {
	var v console.IncidentView
	if shown, err := a.post(c.Context(), dry, "/api/v1/incidents/"+url.PathEscape(id)+"/"+verb, in, &v); shown || err != nil {
		return err
	}
	return a.show(v, "%s", incidentText(v))
}

func (a *app) incidentNote() *cobra.Command {
	var in console.NoteRequest
	var dry bool
	c := &cobra.Command{Use: "note ID TEXT", Short: "add to the timeline what only people know", Args: exactly(2, "the id of an incident and a text"), RunE: func(c *cobra.Command, args []string) error {
		in.Text = args[1]
		return a.incidentPost(c, args[0], "notes", in, dry)
	}}
	c.Flags().StringVar(&in.Element, "element", "", "which of the twelve elements of a timeline it is, like preliminary-report")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) incidentHold(release bool) *cobra.Command {
	in := console.HoldRequest{Release: release}
	var issuer string
	var dry bool
	c := &cobra.Command{Use: "hold ID SERIAL", Short: "legal hold: nothing revokes this certificate, and it is reported as delayed", Args: exactly(2, "the id of an incident and a serial"), RunE: func(c *cobra.Command, args []string) error {
		var err error
		if in.Serial, err = bulkhead.ParseSerial(args[1]); err != nil {
			return err
		}
		in.Issuer = bulkhead.AuthorityID(issuer)
		return a.incidentPost(c, args[0], "holds", in, dry)
	}}
	if release {
		c.Use, c.Short = "release ID SERIAL", "end a legal hold; plan the campaign again to give it a date"
	}
	c.Flags().StringVar(&in.Why, "why", "", "court, docket and until when; or why the hold ends")
	c.Flags().StringVar(&issuer, "issuer", "", "authority, where two share the serial")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) incidentClose() *cobra.Command {
	var in console.WhyRequest
	var dry bool
	c := &cobra.Command{Use: "close ID", Short: "close an incident whose certificates are revoked or expired", Args: exactly(1, "the id of an incident"), RunE: func(c *cobra.Command, args []string) error {
		return a.incidentPost(c, args[0], "closing", in, dry)
	}}
	c.Flags().StringVar(&in.Why, "why", "", "why it can be closed, for the record")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) incidentPlaybooks() *cobra.Command {
	return &cobra.Command{Use: "playbooks [NAME]", Short: "what to type on each kind of day, in order", Args: atMost(1, "the name of a playbook, or none"), RunE: func(c *cobra.Command, args []string) error {
		return get(a, c, "/api/v1/playbooks", func(v console.PlaybookList) string {
			var b strings.Builder
			for _, p := range v.Playbooks {
				if len(args) > 0 && p.Name != args[0] {
					continue
				}
				fmt.Fprintf(&b, "%s: when %s\n", p.Name, p.When)
				for n, s := range p.Steps {
					if len(args) == 0 {
						break
					}
					fmt.Fprintf(&b, "%2d. %s: %s\n", n+1, s.Who, s.Do)
					if s.Type != "" {
						fmt.Fprintf(&b, "      %s\n", s.Type)
					}
				}
			}
			return strings.TrimRight(b.String(), "\n")
		})
	}}
}

func (a *app) incidentMine() *cobra.Command {
	return &cobra.Command{Use: "mine", Short: "for accounts (BULKHEAD_TOKEN): my certificates in open incidents, what is due, what replaces them", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		return get(a, c, "/api/v1/my/incidents", func(v console.ExposureList) string {
			var rows []string
			for _, e := range v.Certificates {
				name := e.Serial.String()
				if len(e.Names) > 0 {
					name = e.Names[0].Value
				}
				due, gone := "-", "-"
				if !e.Deadline.IsZero() {
					due = e.Deadline.Format(utcFormat)
				}
				if !e.RevokedAt.IsZero() {
					gone = e.RevokedAt.Format(utcFormat)
				}
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", name, e.Serial, e.State, e.Step, due, gone, e.Replacement))
			}
			if len(rows) == 0 {
				return "none of this account's certificates is in an open incident"
			}
			return table("NAME\tSERIAL\tSTATE\tSTEP\tDEADLINE (UTC)\tOLD ONE GOES (UTC)\tREPLACEMENT", rows)
		})
	}}
}
