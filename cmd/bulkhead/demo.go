package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/run"
)

func (a *app) demo() *cobra.Command {
	c := &cobra.Command{Use: "demo", Short: "dangers shown with real keys: forged-ocsp"}
	c.AddCommand(a.demoForged())
	return c
}

func (a *app) demoForged() *cobra.Command {
	var keep string
	c := &cobra.Command{Use: "forged-ocsp", Short: "forge OCSP responses as the intermediates of 2020 could, and see who believes them", Args: exactly(0, "no arguments"),
		Long: "Makes a throw-away root with children and has each of them sign that sibling A is good: (A) the root's OCSP delegate, (B) an\nintermediate with the OCSPSigning purpose, (C) one without it, (D) a TLS server certificate. Checks each response with the\ncheck that this house uses, and beside it with openssl where that is on the PATH. No house is needed and none is touched.",
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := run.ForgedOCSP(c.Context(), keep, time.Now())
			if err != nil {
				return err
			}
			if !r.Sound {
				a.code = exitFailed
			}
			return a.show(r, "%s", forgedText(r))
		}}
	c.Flags().StringVar(&keep, "out", "", "keep root, sibling and responses in this new folder")
	return c
}

func forgedText(r run.ForgedReport) string {
	var b strings.Builder
	if r.Sound {
		b.WriteString("Our check believes the lawful responder and nobody else.\n")
	} else {
		b.WriteString("OUR CHECK IS WRONG: see the verdicts.\n")
	}
	dangerous := 0
	for _, x := range r.Cases {
		if strings.HasSuffix(x.Verdict, "DANGEROUS") {
			dangerous++
		}
	}
	if dangerous > 0 {
		fmt.Fprintf(&b, "OpenSSL believes %d forgeries: whoever holds such a key decides what relying parties are told of its siblings.\n", dangerous)
	}
	fmt.Fprintf(&b, "beside us: %s\n\n", r.OpenSSL)
	var rows []string
	for _, x := range r.Cases {
		rows = append(rows, fmt.Sprintf("%s\t%s", x.Case, x.Verdict), "\tsigned by "+x.Signer, "\tours: "+x.Ours, "\topenssl: "+x.OpenSSL)
	}
	b.WriteString(table("CASE\tVERDICT", rows))
	if r.Dir != "" {
		fmt.Fprintf(&b, "\n\nkept in %s; see also: bulkhead hierarchy audit FILE, which finds authorities with that purpose", r.Dir)
	}
	return b.String()
}
