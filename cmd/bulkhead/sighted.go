package main

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

// sightedAtOnce is how many certificates one request brings.
const sightedAtOnce = 100

// alarmsSighted judges certificates that somebody found.
func (a *app) alarmsSighted() *cobra.Command {
	var source string
	var dry bool
	c := &cobra.Command{Use: "sighted FILE…", Short: "judge certificates found in CT logs or elsewhere: ours or not, known or not", Args: cobra.MinimumNArgs(1),
		Long: "Each PEM file may hold many certificates, precertificates included, as a CT monitor leaves them. One that a key of the house\n" +
			"signed and the record does not know is alarm D2; one with a key that was blocked before it was made is D12. Exit code 3 then.",
		Example: "  bulkhead alarms sighted --source 'ct: certspotter' found/*.pem",
		RunE: func(c *cobra.Command, args []string) error {
			var all []string
			for _, f := range args {
				more, err := readPEM(f)
				if err != nil {
					return err
				}
				all = append(all, more...)
			}
			if len(all) == 0 {
				return bulkhead.NewFault(bulkhead.KindUsage, "the files hold no certificate").WithHint("PEM, with BEGIN CERTIFICATE")
			}
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			var out console.SightingsResponse
			for len(all) > 0 {
				n := min(len(all), sightedAtOnce)
				in := console.SightingsRequest{Source: source, Certificates: all[:n]}
				if dry {
					if err := a.rehearse(c.Context(), cl, http.MethodPost, "/api/v1/sightings", in); err != nil || len(all) == n {
						return err
					}
				} else {
					var got console.SightingsResponse
					if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/sightings", in, &got); err != nil {
						return err
					}
					out.Certificates = append(out.Certificates, got.Certificates...)
				}
				all = all[n:]
			}
			return a.sightedWords(out)
		}}
	c.Flags().StringVar(&source, "source", "", "where they were found, for the alarm; required")
	dryRunFlag(c, &dry)
	return c
}

func (a *app) sightedWords(out console.SightingsResponse) error {
	count := map[bulkhead.SightedReason]int{}
	bad := 0
	for _, v := range out.Certificates {
		count[v.Verdict]++
		if v.Verdict == bulkhead.SightedUnknown || v.Blocked {
			bad++
			a.say("ALARM %s: %s", v.SHA256, v.Detail)
		}
	}
	if bad > 0 {
		a.code = exitRefused
	}
	return a.show(out, "%s", fmt.Sprintf("%d certificates: %d known, %d UNKNOWN, %d of others, %d unreadable", len(out.Certificates), count[bulkhead.SightedKnown],
		count[bulkhead.SightedUnknown], count[bulkhead.SightedForeign], count[bulkhead.SightedUnreadable]))
}
