package main

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
	"bulkhead/run/client"
)

func (a *app) ticket() *cobra.Command {
	c := &cobra.Command{Use: "ticket", Short: "codes for one free reissue each: issue, list, redeem"}
	c.AddCommand(a.ticketIssue(), a.ticketList(), a.ticketRedeem())
	return c
}

func (a *app) ticketIssue() *cobra.Command {
	var in console.IssueTicketRequest
	var dry bool
	c := &cobra.Command{Use: "issue ORDER NAME", Short: "give one free reissue for an order and a name, and print its code", Args: exactly(2, "an order and a name of its certificate"), RunE: func(c *cobra.Command, args []string) error {
		in.Order, in.Name = args[0], args[1]
		if in.Expires != "" {
			d, err := run.ParseDuration(in.Expires)
			if err != nil {
				return err
			}
			in.Expires = d.String()
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		if dry {
			return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/tickets", in)
		}
		var v console.TicketView
		if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/tickets", in, &v); err != nil {
			return err
		}
		return a.show(v, "code     %s\nfor      order %s, %s, account %s\nuntil    %s UTC\nIt works once, with a new key.", v.Code, v.Order, v.Name, v.Account, v.ExpiresAt.Format(utcFormat))
	}}
	c.Flags().StringVar(&in.Expires, "expires", "", "how long it is good, like 30d (default: the configuration's)")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) ticketList() *cobra.Command {
	var campaign, account, lang string
	var codes bool
	var limit int
	c := &cobra.Command{Use: "list", Short: "list tickets, newest first; --codes shows those that are not used, to send them", Args: exactly(0, "no arguments"), RunE: func(c *cobra.Command, _ []string) error {
		q := url.Values{"campaign": {campaign}, "account": {account}, "codes": {fmt.Sprint(codes)}, "limit": {fmt.Sprint(limit)}}
		if lang != "" {
			q.Set("advice", lang)
		}
		return get(a, c, "/api/v1/tickets?"+q.Encode(), func(v console.TicketList) string {
			var rows []string
			for _, t := range v.Tickets {
				rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s", t.State, t.Order, t.Name, t.Account, t.ExpiresAt.Format(utcFormat), t.Code))
			}
			if len(rows) == 0 {
				return "no tickets"
			}
			text := table("STATE\tORDER\tNAME\tACCOUNT\tUNTIL (UTC)\tCODE", rows)
			for _, t := range v.Tickets {
				if t.Advice != "" {
					text += fmt.Sprintf("\n\n%s, order %s:\n%s", t.Name, t.Order, strings.TrimSpace(t.Advice))
				}
			}
			return text
		})
	}}
	c.Flags().StringVar(&campaign, "campaign", "", "only of this campaign")
	c.Flags().StringVar(&account, "account", "", "only of this account")
	c.Flags().BoolVar(&codes, "codes", false, "show the codes that are not used; for operators")
	c.Flags().IntVar(&limit, "limit", 100, "rows, 1 to 10000")
	c.Flags().StringVar(&lang, "advice", "", "en or ja: with what the holder of each ticket that is not used has to do")
	return c
}

// redemption is one line of a file, or the flags.
type redemption struct{ code, order, name, csr string }

func (a *app) ticketRedeem() *cobra.Command {
	var r redemption
	var file, out, from, method, codeFile string
	var dry bool
	c := &cobra.Command{Use: "redeem", Short: "replace certificates against codes: each its own request, with its own outcome", Args: exactly(0, "no arguments"),
		Long: "One order, one name, one new request: --order O --name N --csr FILE, and the code in a file or on standard input.\nMany: --file CSV with CODE,ORDER,NAME,CSRFILE a line. Each line stands for itself; exit code 4 when some failed.\nOperators name the registered address that asked: --from.",
		RunE: func(c *cobra.Command, _ []string) error {
			var all []redemption
			if file != "" {
				var err error
				if all, err = readRedemptions(file); err != nil {
					return err
				}
			} else {
				var err error
				if r.code, err = a.readCode(codeFile); err != nil {
					return err
				}
				all = []redemption{r}
			}
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			return a.redeemAll(c, cl, all, out, console.ReissueRequest{From: from, Method: bulkhead.Method(method)}, dry)
		}}
	f := c.Flags()
	f.StringVar(&codeFile, "code-file", "", "file that holds the code (default: standard input)")
	f.StringVar(&r.order, "order", "", "order number of the old certificate")
	f.StringVar(&r.name, "name", "", "a name of the old certificate")
	f.StringVar(&r.csr, "csr", "", "file with the new request")
	f.StringVar(&file, "file", "", "CSV with CODE,ORDER,NAME,CSRFILE a line")
	f.StringVar(&out, "out", ".", "directory for the new certificates")
	f.StringVar(&from, "from", "", "operators: the registered address that asked")
	f.StringVar(&method, "method", "", "show the names in this way instead: http-01, dns-01 or tls-alpn-01")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) readCode(path string) (string, error) {
	if path != "" {
		p, err := run.ReadSecret(path)
		return string(p), err
	}
	line, err := bufio.NewReader(a.in).ReadString('\n')
	if line = strings.TrimSpace(line); line == "" {
		return "", bulkhead.NewFault(bulkhead.KindUsage, "there is no code").WithHint("echo CODE | bulkhead ticket redeem …, or --code-file FILE").WithCause(err)
	}
	return line, nil
}

// readRedemptions reads CODE,ORDER,NAME,CSRFILE lines; the names of the files are relative to the list's own folder.
func readRedemptions(path string) ([]redemption, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithHint("a file with CODE,ORDER,NAME,CSRFILE a line").WithCause(err)
	}
	defer f.Close()
	rd := csv.NewReader(f)
	rd.FieldsPerRecord, rd.TrimLeadingSpace, rd.Comment = 4, true, '#'
	var out []redemption
	for {
		rec, err := rd.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindMalformed, "%s: %s", path, err).WithHint("CODE,ORDER,NAME,CSRFILE a line")
		}
		if !filepath.IsAbs(rec[3]) {
			rec[3] = filepath.Join(filepath.Dir(path), rec[3])
		}
		out = append(out, redemption{rec[0], rec[1], rec[2], rec[3]})
	}
}

// redeemed is the outcome of one line.
type redeemed struct {
	Order  string          `json:"order"`
	Name   string          `json:"name"`
	Serial bulkhead.Serial `json:"serial,omitzero"`
	Path   string          `json:"path,omitempty"`
	Error  string          `json:"error,omitempty"`
	Next   string          `json:"next,omitempty"`
}

func (a *app) redeemAll(c *cobra.Command, cl *client.Client, all []redemption, dir string, common console.ReissueRequest, dry bool) error {
	if !dry { // before a code is used up
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be made: %s", dir, err).WithHint("--out FOLDER")
		}
	}
	results := []redeemed{}
	failed := 0
	for _, r := range all {
		in := common
		in.Code, in.Order, in.Name = r.code, r.order, r.name
		one := redeemed{Order: r.order, Name: r.name}
		csr, err := os.ReadFile(r.csr)
		if err != nil {
			err = bulkhead.Faultf(bulkhead.KindUsage, "the request %q cannot be read", r.csr).WithHint("openssl req -new -newkey … -out FILE").WithCause(err)
		}
		in.CSR = string(csr)
		if dry && err == nil && len(all) == 1 {
			return a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/reissues", in)
		}
		if err == nil && dry {
			err = cl.Do(c.Context(), http.MethodPost, "/api/v1/reissues?dry_run=true", in, nil)
		} else if err == nil {
			one.Serial, one.Path, err = redeemOne(c, cl, in, dir)
		}
		if err != nil {
			if len(all) == 1 {
				return err
			}
			failed++
			one.Error, one.Next = bulkhead.AsFault(err).Detail, bulkhead.AsFault(err).Hint
			a.say("order %s, %s: %s", r.order, r.name, one.Error)
		}
		results = append(results, one)
	}
	if failed > 0 {
		a.code = exitPartly
	}
	return a.show(map[string]any{"reissues": results}, "%d of %d reissued; certificates are in %s", len(all)-failed, len(all), dir)
}

func redeemOne(c *cobra.Command, cl *client.Client, in console.ReissueRequest, dir string) (bulkhead.Serial, string, error) {
	var v console.IssueResponse
	if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/reissues", in, &v); err != nil {
		return bulkhead.Serial{}, "", err
	}
	path := filepath.Join(dir, strings.ReplaceAll(in.Name, "*", "_wildcard")+"-"+v.Certificate.Serial.String()+".pem")
	return v.Certificate.Serial, path, os.WriteFile(path, []byte(v.PEM+v.ChainPEM), 0o644) //nolint:gosec // certificates are public
}
