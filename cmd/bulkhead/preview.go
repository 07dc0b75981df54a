package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

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
	var q incidentScope
	var dry bool
	c := &cobra.Command{Use: "preview", Short: "plan a change and show what it would do; nothing goes public", Args: exactly(0, "no arguments"),
		Example: "  bulkhead change preview --revoke-cert www.pem --reason keyCompromise\n  bulkhead change preview --revoke-ca issuing-p256 --reason cACompromise --why \"key seen in public\"\n" +
			"  bulkhead change preview --revoke-serials list.csv --reason superseded --why \"wrong validation, inc-7\"\n  bulkhead change preview --issuer issuing-p256 --issued-before 2026-11-20T00:00:00Z --reason superseded --why \"inc-7\"", RunE: func(c *cobra.Command, _ []string) error {
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			scope, err := q.read()
			if err != nil {
				return err
			}
			if !scope.IsEmpty() {
				return a.previewScope(c.Context(), cl, s, scope, dry)
			}
			in, err := a.selected(c.Context(), cl, s)
			if errors.Is(err, errLong) {
				return a.previewLong(c.Context(), cl, s, dry)
			}
			if err != nil {
				return err
			}
			if dry {
				return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/changes", in)
			}
			var v console.ChangeView
			if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/changes", in, &v); err != nil {
				return err
			}
			if v, err = a.previewed(c.Context(), cl, v); err != nil {
				return err
			}
			return a.showPreview(v)
		}}
	c.Flags().StringArrayVar(&s.certs, "revoke-cert", nil, "certificate file to revoke; may be repeated")
	c.Flags().StringArrayVar(&s.cas, "revoke-ca", nil, "certificate file of an authority to revoke, or the name of one of ours for all its certificates; may be repeated")
	c.Flags().StringArrayVar(&s.serials, "revoke-serials", nil, "file with ISSUER,SERIAL a line, of any length, or - for standard input; may be repeated")
	q.selections(c)
	c.Flags().StringVar(&s.reason, "reason", "unspecified", "RFC 5280 reason")
	c.Flags().StringVar(&s.why, "why", "", "free text for the record (default: previewed at the command line)")
	dryRunFlag(c, &dry)
	return c
}

// lookEvery is how often a change is looked at whose preview takes long.
const lookEvery = time.Second

// previewed waits for a preview that goes on at the server: that of an authority with millions of certificates.
func (a *app) previewed(ctx context.Context, cl *client.Client, v console.ChangeView) (console.ChangeView, error) {
	if v.State == bulkhead.ChangePlanned {
		a.say("the preview of change %s takes long and goes on; this waits for it (later: bulkhead change show %s)", v.ID, v.ID)
	}
	for v.State == bulkhead.ChangePlanned {
		select {
		case <-ctx.Done():
			return v, bulkhead.Faultf(bulkhead.KindUnavailable, "the preview of change %s goes on", v.ID).WithHint("bulkhead change show " + v.ID)
		case <-time.After(lookEvery):
		}
		var now console.ChangeView
		if err := cl.Do(ctx, http.MethodGet, "/api/v1/changes/"+url.PathEscape(v.ID), nil, &now); err != nil {
			return v, err
		}
		v = now
	}
	if v.State == bulkhead.ChangeRefused {
		return v, bulkhead.Faultf(bulkhead.KindGate, "change %s ended without a preview: %s", v.ID, v.Problem).WithHint("ask again: bulkhead change preview")
	}
	return v, nil
}

// selected reads the files.
func (a *app) selected(ctx context.Context, cl *client.Client, s revocations) (console.PlanChangeRequest, error) {
	in := console.PlanChangeRequest{Items: []console.ChangeItem{}, Reason: s.reason, Why: s.why}
	in.Why = s.text()
	files := slices.Clone(s.certs)
	for _, x := range s.cas {
		if _, err := os.Stat(x); err != nil && bulkhead.AuthorityID(x).Check() == nil {
			in.Authorities = append(in.Authorities, bulkhead.AuthorityID(x))
			continue
		}
		files = append(files, x)
	}
	for _, path := range files {
		v, err := a.find(ctx, cl, path, "")
		if err != nil {
			return in, err
		}
		in.Items = append(in.Items, console.ChangeItem{Issuer: v.Issuer, Serial: v.Serial})
	}
	for _, path := range s.serials {
		if path == "-" {
			return in, errLong // it is read once
		}
		err := eachSerial(path, func(it console.ChangeItem) error {
			if in.Items = append(in.Items, it); len(in.Items) > inOnePart {
				return errLong
			}
			return nil
		})
		if err != nil {
			return in, err
		}
	}
	if len(in.Items)+len(in.Authorities) == 0 {
		return in, bulkhead.NewFault(bulkhead.KindUsage, "nothing to revoke was named").WithHint("--revoke-cert FILE, --revoke-ca FILE|NAME or --revoke-serials FILE")
	}
	return in, nil
}

// text is why, for the record.
func (s revocations) text() string {
	return cmp.Or(s.why, "previewed at the command line")
}

// readSerials reads ISSUER,SERIAL lines.
func readSerials(path string) (items []console.ChangeItem, err error) {
	err = eachSerial(path, func(it console.ChangeItem) error {
		items = append(items, it)
		return nil
	})
	return items, err
}

// eachSerial goes through ISSUER,SERIAL lines, of standard input for "-"; blank lines and # comments are passed over.
func eachSerial(path string, take func(console.ChangeItem) error) error {
	f := os.Stdin
	if path != "-" {
		var err error
		if f, err = os.Open(path); err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithHint("a file with ISSUER,SERIAL a line").WithCause(err)
		}
		defer f.Close()
	}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		ref, err := bulkhead.ParseCertificateRef(line)
		if err != nil {
			return bulkhead.Faultf(bulkhead.KindMalformed, "%s:%d: %q is not ISSUER,SERIAL", path, n, line).WithHint("for example: issuing-p256,03ab9c")
		}
		if err := take(console.ChangeItem{Issuer: ref.Issuer, Serial: ref.Serial}); err != nil {
			return err
		}
	}
	return lines.Err()
}

// preview is a change's preview with the hash that approvals quote.
type preview struct {
	bulkhead.Preview
	Hash bulkhead.Hash `json:"hash"`
}

// previewWords is the stored preview of a change for people; "" while there is none.
func previewWords(v console.ChangeView) string {
	var p bulkhead.Preview
	if json.Unmarshal(v.Preview, &p) != nil || p.Change == "" {
		return string(v.Preview)
	}
	return p.Words()
}

// unblock is what to type after a preview that is blocked: the ceremony that is missing, or giving up.
func (p preview) unblock() string {
	for _, c := range p.Ceremonies {
		if !c.Ready {
			return c.Next
		}
	}
	return "bulkhead change withdraw " + p.Change
}

// showPreview prints words first and numbers second; exit 3 when it is blocked.
func (a *app) showPreview(v console.ChangeView) error {
	p := preview{Hash: v.PreviewHash}
	if err := json.Unmarshal(v.Preview, &p.Preview); err != nil {
		return fmt.Errorf("the preview cannot be read: %w", err)
	}
	if err := a.show(p, "%schange %s, preview %s", p.Words(), v.ID, v.PreviewHash); err != nil {
		return err
	}
	if len(p.Blocked) > 0 {
		a.say("next: %s", p.unblock())
		return errFindings
	}
	if p.Authorities > 0 {
		a.say("next: bulkhead change approve %s   (certificates of authorities take two people)", v.ID)
		return nil
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
		var v console.ChangeView
		if shown, err := a.post(c.Context(), dry, "/api/v1/changes/"+url.PathEscape(args[0])+"/withdrawal", in, &v); shown || err != nil {
			return err
		}
		return a.show(v, "change %s is %s; nothing of it went public", v.ID, v.State)
	}}
	c.Flags().StringVar(&in.Why, "why", "", "free text for the record")
	dryRunFlag(c, &dry)
	return c
}
