package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

// revocations is what a new change is to revoke.
type revocations struct {
	certs, cas, serials []string
	reason, why         string
}

func (a *app) changePreview() *cobra.Command {
	var s revocations
	var dry bool
	c := &cobra.Command{Use: "preview", Short: "plan a change and show what it would do; nothing goes public", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		in := console.PlanChangeRequest{Reason: s.reason, Why: s.why}
		if in.Items, err = a.selected(c.Context(), cl, s); err != nil {
			return err
		}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/changes", in)
		}
		var v console.ChangeView
		if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/changes", in, &v); err != nil {
			return err
		}
		return a.showPreview(v)
	}}
	c.Flags().StringArrayVar(&s.certs, "revoke-cert", nil, "certificate file to revoke; may be repeated")
	c.Flags().StringArrayVar(&s.cas, "revoke-ca", nil, "certificate file of an authority to revoke; may be repeated")
	c.Flags().StringArrayVar(&s.serials, "revoke-serials", nil, "file with ISSUER,SERIAL a line; may be repeated")
	c.Flags().StringVar(&s.reason, "reason", "unspecified", "RFC 5280 reason")
	c.Flags().StringVar(&s.why, "why", "", "free text for the record; required")
	dryRunFlag(c, &dry)
	return c
}

// selected reads the files.
func (a *app) selected(ctx context.Context, cl *client.Client, s revocations) ([]console.ChangeItem, error) {
	var items []console.ChangeItem
	for _, path := range append(append([]string{}, s.certs...), s.cas...) {
		v, err := a.find(ctx, cl, path, "")
		if err != nil {
			return nil, err
		}
		items = append(items, console.ChangeItem{Issuer: v.Issuer, Serial: v.Serial})
	}
	for _, path := range s.serials {
		more, err := readSerials(path)
		if err != nil {
			return nil, err
		}
		items = append(items, more...)
	}
	if len(items) == 0 {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "nothing to revoke was named").WithHint("--revoke-cert FILE, --revoke-ca FILE or --revoke-serials FILE")
	}
	return items, nil
}

// readSerials reads ISSUER,SERIAL lines; blank lines and # comments are passed over.
func readSerials(path string) ([]console.ChangeItem, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithHint("a file with ISSUER,SERIAL a line").WithCause(err)
	}
	defer f.Close()
	var items []console.ChangeItem
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		issuer, serial, ok := strings.Cut(line, ",")
		id := bulkhead.AuthorityID(strings.TrimSpace(issuer))
		s, err := bulkhead.ParseSerial(serial)
		if !ok || err != nil || id.Check() != nil {
			return nil, bulkhead.Faultf(bulkhead.KindMalformed, "%s:%d: %q is not ISSUER,SERIAL", path, n, line).WithHint("for example: issuing-p256,03ab9c")
		}
		items = append(items, console.ChangeItem{Issuer: id, Serial: s})
	}
	return items, lines.Err()
}

// preview is the part of a change's preview that the command line shows.
type preview struct {
	Direct         []json.RawMessage             `json:"direct"`
	Count          int                           `json:"count"`
	AnswersChanged int                           `json:"answers_changed"`
	PathsLost      []string                      `json:"paths_lost"`
	ByIssuer       map[bulkhead.AuthorityID]int  `json:"by_issuer"`
	ByProfile      map[string]int                `json:"by_profile"`
	Unaffected     map[bulkhead.AuthorityID]bool `json:"unaffected"`
	Blocked        []string                      `json:"blocked"`
	Change         string                        `json:"change"`
	Hash           bulkhead.Hash                 `json:"hash"`
}

// showPreview prints words first and numbers second; exit 3 when it is blocked.
func (a *app) showPreview(v console.ChangeView) error {
	p := preview{PathsLost: []string{}}
	if err := json.Unmarshal(v.Preview, &p); err != nil {
		return fmt.Errorf("the preview cannot be read: %w", err)
	}
	p.Hash, p.Change = v.PreviewHash, v.ID
	if a.json {
		if err := a.print(p); err != nil {
			return err
		}
	} else {
		var b strings.Builder
		fmt.Fprintf(&b, "change %s would make %d answers say revoked, and no other.\n", v.ID, p.AnswersChanged)
		for id, n := range p.ByIssuer {
			fmt.Fprintf(&b, "  of %s: %d\n", id, n)
		}
		for id := range p.Unaffected {
			fmt.Fprintf(&b, "  nothing changes under %s\n", id)
		}
		for _, why := range p.Blocked {
			fmt.Fprintf(&b, "blocked: %s\n", why)
		}
		fmt.Fprintf(&b, "preview %s", v.PreviewHash)
		fmt.Fprintln(a.out, b.String())
	}
	if len(p.Blocked) > 0 {
		a.say("next: bulkhead change withdraw %s", v.ID)
		return errFindings
	}
	a.say("next: bulkhead change activate %s   (more people: bulkhead change approve %s)", v.ID, v.ID)
	return nil
}

func (a *app) changeActivate() *cobra.Command {
	var hash string
	var dry bool
	c := &cobra.Command{Use: "activate ID", Short: "make a previewed change public, where one person may", Args: exactly(1, "the id of a change"), RunE: func(c *cobra.Command, args []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		path := "/api/v1/changes/" + url.PathEscape(args[0])
		var v console.ChangeView
		if err := cl.Do(c.Context(), http.MethodGet, path, nil, &v); err != nil {
			return err
		}
		in := console.ActivateRequest{PreviewHash: v.PreviewHash}
		if hash != "" {
			if in.PreviewHash, err = bulkhead.ParseHash(hash); err != nil {
				return err
			}
		}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, path+"/activation", in)
		}
		if err := cl.Do(c.Context(), http.MethodPost, path+"/activation", in, &v); err != nil {
			return err
		}
		return a.show(v, "change %s is %s: %d certificates, head %d", v.ID, v.State, v.Count, v.Head)
	}}
	c.Flags().StringVar(&hash, "preview", "", "hash of the preview that was seen (default: the newest)")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) changeWithdraw() *cobra.Command {
	var in console.WithdrawRequest
	var dry bool
	c := &cobra.Command{Use: "withdraw ID", Short: "end a change that nobody approved yet", Args: exactly(1, "the id of a change"), RunE: func(c *cobra.Command, args []string) error {
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		path := "/api/v1/changes/" + url.PathEscape(args[0]) + "/withdrawal"
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, path, in)
		}
		var v console.ChangeView
		if err := cl.Do(c.Context(), http.MethodPost, path, in, &v); err != nil {
			return err
		}
		return a.show(v, "change %s is %s; nothing of it went public", v.ID, v.State)
	}}
	c.Flags().StringVar(&in.Why, "why", "", "free text for the record")
	dryRunFlag(c, &dry)
	return c
}
