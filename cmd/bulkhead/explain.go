package main

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run/client"
)

func (a *app) explain() *cobra.Command {
	c := &cobra.Command{Use: "explain", Short: "where an answer comes from: ocsp"}
	c.AddCommand(a.explainOCSP())
	return c
}

func (a *app) explainOCSP() *cobra.Command {
	var derFile, certFile, headersFile string
	c := &cobra.Command{Use: "ocsp", Short: "which record, change, signer, epoch and cache made this OCSP answer", Args: exactly(0, "no arguments"),
		Long: "Reads a DER OCSP response and asks the running house about it: the certificate's row and the change that set it, the responder's\nkey and whether it is ours, the evidence of the signature, the head, epoch and pack that are public now, and, from the saved\nHTTP headers of the reply, how old it is and until when caches may keep it. What cannot be found out is said with its reason.\nExit 3 when no key of ours signed it, or a key of ours did and evidence does not know.",
		RunE: func(c *cobra.Command, _ []string) error {
			in, err := explainRequest(derFile, certFile, headersFile)
			if err != nil {
				return err
			}
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			var v bulkhead.OCSPExplanation
			if err := cl.Do(c.Context(), http.MethodPost, "/api/v1/explain/ocsp", in, &v); err != nil {
				return err
			}
			if v.Foreign() {
				a.code = exitRefused
			}
			return a.show(v, "%s", explainText(v))
		}}
	c.Flags().StringVar(&derFile, "der", "", "the OCSP response, DER")
	c.Flags().StringVar(&certFile, "cert", "", "the certificate it is about, PEM or DER, where the response speaks of several")
	c.Flags().StringVar(&headersFile, "headers", "", "HTTP headers of the reply, as curl -D FILE saves them")
	return c
}

func explainRequest(derFile, certFile, headersFile string) (in console.ExplainRequest, err error) {
	read := func(flag, path string) []byte {
		if path == "" || err != nil {
			return nil
		}
		body, rerr := os.ReadFile(path)
		if rerr != nil {
			err = bulkhead.Faultf(bulkhead.KindUsage, "--%s: %s cannot be read", flag, path).WithCause(rerr)
		}
		return body
	}
	der, cert, headers := read("der", derFile), read("cert", certFile), read("headers", headersFile)
	if err != nil {
		return in, err
	}
	if len(der) == 0 {
		return in, bulkhead.NewFault(bulkhead.KindUsage, "an OCSP response is wanted").WithHint("openssl ocsp -issuer CA -cert CERT -url URL -respout r.der; bulkhead explain ocsp --der r.der")
	}
	in = console.ExplainRequest{Response: base64.StdEncoding.EncodeToString(der), Headers: string(headers)}
	if len(cert) > 0 {
		if block, _ := pem.Decode(cert); block != nil {
			cert = block.Bytes
		}
		in.Certificate = base64.StdEncoding.EncodeToString(cert)
	}
	return in, nil
}

// explainText is words first: the verdict, then what it rests on.
func explainText(v bulkhead.OCSPExplanation) string {
	var rows []string
	row := func(name, format string, args ...any) {
		rows = append(rows, name+"\t"+fmt.Sprintf(format, args...))
	}
	at := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
	status := v.Status
	if !v.RevokedAt.IsZero() {
		status += " since " + at(v.RevokedAt) + ", " + v.Reason
	}
	row("says", "%s of serial %s of %s", status, v.Serial, or(v.Issuer, "a foreign issuer"))
	if !v.ProducedAt.IsZero() {
		row("produced", "%s, valid %s to %s", at(v.ProducedAt), at(v.ThisUpdate), at(v.NextUpdate))
	}
	if v.Signer.Subject != "" {
		whose := "NOT OURS"
		if v.Signer.Ours {
			whose = "ours"
		}
		row("signed by", "%s (%s), serial %s", v.Signer.Subject, whose, or(v.Signer.Serial, "unknown"))
		row("", "key SHA-256 %s", v.Signer.KeySHA256)
	}
	if v.Signer.Logged != "" {
		row("evidence", "of the signature: %s%s", v.Signer.Logged, prefixed(", batch ", v.Signer.Batch))
	}
	if r := v.Record; r != nil {
		row("record", "%s%s", r.State, prefixed(", ", r.Reason))
		if r.Evidence > 0 {
			row("", "issue in evidence: leaf %d", r.Evidence-1)
		}
		if r.Change != "" {
			row("", "set by change %s of %s, public %s with head %d: %s", r.Change, r.ChangedBy, at(r.ChangedAt), r.ChangeHead, r.Why)
		}
	}
	if p := v.Published; p != nil {
		same := "not this answer"
		if p.Same {
			same = "this very answer"
		}
		row("public now", "head %d of %s, epoch %d, generation %d: %s", p.Head, at(p.HeadAt), p.Epoch, p.Generation, same)
		if p.Pack != "" {
			row("", "pack %s, answer of %s", p.Pack, at(p.ThisUpdate))
		}
	}
	if c := v.Cache; c != nil {
		row("cache", "held for %s, may be kept until %s%s", or(c.Age, "an unknown time"), at(c.KeepUntil), prefixed(", via ", c.Via))
	}
	if v.Refused != "" {
		row("strict check", "refuses it: %s", v.Refused)
	}
	for _, m := range v.Missing {
		row("unknown", "%s", m)
	}
	return v.Verdict + "\n\n" + table("", rows)
}

func or(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func prefixed(prefix, text string) string {
	if text == "" {
		return ""
	}
	return prefix + text
}
