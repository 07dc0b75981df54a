package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

// maxURLs bounds a list of CRL URLs in octets: thousands of shards.
const maxURLs = 1 << 20

// hierarchyCRLURLs prints what CCADB asks for as "JSON Array of Partitioned CRLs", as the status listener serves it.
func (a *app) hierarchyCRLURLs() *cobra.Command {
	return &cobra.Command{Use: "crl-urls [AUTHORITY]", Short: "the URLs of every CRL, as root programmes want them listed", Args: cobra.MaximumNArgs(1), RunE: func(c *cobra.Command, args []string) error {
		ready, err := client.ReadReady(a.opts.Dir)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			list, err := crlURLs(c.Context(), ready.CRLBase, bulkhead.AuthorityID(args[0]))
			if err != nil {
				return err
			}
			return a.show(list, "%s", strings.Join(list, "\n"))
		}
		cl, err := client.New(a.opts)
		if err != nil {
			return err
		}
		var all map[string][]console.AuthorityView
		if err := cl.Do(c.Context(), http.MethodGet, "/api/v1/authorities", nil, &all); err != nil {
			return err
		}
		out, text := map[bulkhead.AuthorityID][]string{}, []string{}
		for _, x := range all["authorities"] {
			if x.State != bulkhead.AuthorityActive && x.State != bulkhead.AuthorityRetired {
				continue
			}
			list, err := crlURLs(c.Context(), ready.CRLBase, x.ID)
			if err != nil {
				return err
			}
			out[x.ID] = list
			text = append(text, list...)
		}
		slices.Sort(text)
		return a.show(out, "%s", strings.Join(text, "\n"))
	}}
}

// crlURLs reads the list of one authority from where relying parties read its CRLs.
func crlURLs(ctx context.Context, base string, id bulkhead.AuthorityID) ([]string, error) {
	if err := id.Check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+string(id)+"/urls.json", nil)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s is not a URL", base).WithCause(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "the status listener at %s does not answer", base).WithHint("bulkhead doctor").WithCause(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return nil, bulkhead.Faultf(bulkhead.KindNotFound, "nothing is published for an authority %s", id).WithHint("bulkhead hierarchy show")
	}
	var list []string
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxURLs)).Decode(&list); err != nil || resp.StatusCode != http.StatusOK {
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "the list of CRLs of %s cannot be read (HTTP %d)", id, resp.StatusCode).WithHint("bulkhead doctor").WithCause(err)
	}
	return list, nil
}
