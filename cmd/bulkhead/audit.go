package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/run"
)

// Lines of talk before --json is the better reading.
const (
	auditVictims = 20 // for each dangerous certificate
	auditNotices = 20
	auditLost    = 20
)

func (a *app) hierarchyAudit() *cobra.Command {
	return &cobra.Command{Use: "audit FILE|DIR…", Short: "look for dangerous authorities in certificate files; needs no server", Args: func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s takes files or directories with certificates, or - for standard input", c.CommandPath()).WithHint(c.CommandPath() + " --help")
		}
		return nil
	}, RunE: func(c *cobra.Command, args []string) error {
		report, err := run.AuditHierarchy(c.Context(), args, a.in, time.Now())
		if err != nil {
			return err
		}
		if err := a.show(report, "%s", auditText(report)); err != nil {
			return err
		}
		switch {
		case report.Serious():
			return errFindings
		case len(report.Certificates) == 0:
			a.code = exitFailed
		case len(report.Unparsed) > 0:
			a.code = exitPartly
		}
		return nil
	}}
}

// auditText says first what is dangerous and for whom, then the rest.
func auditText(r run.AuditReport) string {
	var b strings.Builder
	names := make(map[string]string, len(r.Certificates))
	for _, c := range r.Certificates {
		names[c.SHA256] = c.Subject
	}
	var forgers, serious, notices []run.AuditFinding
	for _, f := range r.Findings {
		switch {
		case f.Rule == "ca-with-ocsp-signing" && f.Severity == "error":
			forgers = append(forgers, f)
		case f.Severity == "notice":
			notices = append(notices, f)
		default:
			serious = append(serious, f)
		}
	}
	switch len(forgers) {
	case 0:
		b.WriteString("No authority here can forge the status of its siblings.\n")
	case 1:
		b.WriteString("One certificate is dangerous: it can forge the status of its siblings.\n")
	default:
		fmt.Fprintf(&b, "%d certificates are dangerous: each can forge the status of its siblings.\n", len(forgers))
	}
	for _, f := range forgers {
		fmt.Fprintf(&b, "\n%s\n", auditLine(f))
		b.WriteString("  could forge the status of:\n")
		fmt.Fprintf(&b, "    itself\n")
		for i, v := range f.Victims {
			if i == auditVictims {
				break
			}
			fmt.Fprintf(&b, "    %s  (sha256 %s)\n", names[v], v)
		}
		if n := f.VictimsTotal - min(len(f.Victims), auditVictims); n > 0 {
			fmt.Fprintf(&b, "    and %d more; --json lists them\n", n)
		}
	}
	if len(serious) > 0 {
		fmt.Fprintf(&b, "\nOther findings: %d\n", len(serious))
		for _, f := range serious {
			fmt.Fprintf(&b, "\n%s\n", auditLine(f))
		}
	}
	auditRest(&b, r, notices)
	return strings.TrimRight(b.String(), "\n")
}

func auditLine(f run.AuditFinding) string {
	subject := f.Subject
	if subject == "" {
		subject = "(no subject)"
	}
	return fmt.Sprintf("%s  %s: %s\n  %s\n  sha256 %s, %s #%d", f.Severity, f.Rule, subject, f.Message, f.SHA256, f.File, f.Index)
}

// auditRest is the notices, what could not be read, and the count.
func auditRest(b *strings.Builder, r run.AuditReport, notices []run.AuditFinding) {
	if len(notices) > 0 {
		fmt.Fprintf(b, "\nGood to know: %d\n", len(notices))
	}
	for i, f := range notices {
		if i == auditNotices {
			fmt.Fprintf(b, "  and %d more; --json lists them\n", len(notices)-i)
			break
		}
		fmt.Fprintf(b, "  %s: %s %s\n", f.Rule, f.Subject, f.Message)
	}
	if len(r.Unparsed) > 0 {
		fmt.Fprintf(b, "\nNot read as a certificate: %d\n", len(r.Unparsed))
	}
	for i, u := range r.Unparsed {
		if i == auditLost {
			fmt.Fprintf(b, "  and %d more; --json lists them\n", len(r.Unparsed)-i)
			break
		}
		fmt.Fprintf(b, "  %s #%d: %s\n", u.File, u.Index, u.Reason)
	}
	fmt.Fprintf(b, "\n%d certificates read, %d inputs not read, %d findings\n", len(r.Certificates), len(r.Unparsed), len(r.Findings))
}
