package main

import (
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
)

// certAdvice says what the holder of a certificate has to do.
func (a *app) certAdvice() *cobra.Command {
	var issuer, lang string
	c := &cobra.Command{Use: "advice SERIAL", Short: "what its holder has to do, with what is known filled in", Args: exactly(1, "a serial"),
		Long: "Prints the five steps of the day of a key compromise (patch, new key, reissue, install, revoke) for one certificate: what looks of\n" +
			"the house showed at its names, how far its campaign has come, which chain it needs, and when the old one is revoked.",
		Example: "  bulkhead cert advice 4f1c --lang ja",
		RunE: func(c *cobra.Command, args []string) error {
			if lang != "en" && lang != "ja" {
				return bulkhead.Faultf(bulkhead.KindUsage, "--lang %s is neither en nor ja", lang)
			}
			q := url.Values{"lang": {lang}}
			if issuer != "" {
				q.Set("issuer", issuer)
			}
			return get(a, c, "/api/v1/certificates/"+url.PathEscape(args[0])+"/advice?"+q.Encode(), func(v console.AdviceView) string {
				if !v.Seen {
					return strings.TrimSpace(v.Text) + "\n\nnext: bulkhead scan NAME --whole --record"
				}
				return strings.TrimSpace(v.Text)
			})
		}}
	c.Flags().StringVar(&issuer, "issuer", "", "authority, where two share the serial")
	c.Flags().StringVar(&lang, "lang", "en", "en or ja")
	return c
}
