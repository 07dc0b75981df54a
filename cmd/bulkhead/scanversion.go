package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/scan/probe"
)

// mostVersion bounds what is read of a version text.
const mostVersion = 64 << 10

func (a *app) scanVersion() *cobra.Command {
	return &cobra.Command{Use: "version TEXT", Short: "judge a version text: what OpenSSL or a package manager says of itself", Args: exactly(1, "a text, or - for standard input"),
		Long: "Reads the output of \"openssl version -a\", a banner, or the version of a package, and says whether CVE-2014-0160 was in it. It knows what\n" +
			"Debian, Ubuntu, Red Hat, CentOS, Fedora and Amazon fixed under an old number. It is no verdict about a server: one that was not\n" +
			"started again runs the old library whatever the package says.\n\n" +
			"Exit codes: 3 affected, 4 the text does not tell, else 0.",
		Example: "  bulkhead scan version \"$(openssl version -a)\"\n  dpkg-query -W libssl1.0.0 | bulkhead scan version -",
		RunE: func(c *cobra.Command, args []string) error {
			text := args[0]
			if text == "-" {
				raw, err := io.ReadAll(io.LimitReader(a.in, mostVersion))
				if err != nil {
					return fmt.Errorf("reading standard input: %w", err)
				}
				text = string(raw)
			}
			if strings.TrimSpace(text) == "" {
				return bulkhead.NewFault(bulkhead.KindUsage, "there is no text").WithHint("openssl version -a | bulkhead scan version -")
			}
			j := probe.JudgeVersion(text)
			words, next := "affected by CVE-2014-0160 (Heartbleed)", "install the fixed package, start every server again, and look: bulkhead scan HOST"
			switch j.State {
			case probe.StringFixed:
				words, next = "fixed", "look at the server itself, which may still run the old library: bulkhead scan HOST"
			case probe.StringNotAffected:
				words, next = "not affected", "look at the server itself, which may run another library: bulkhead scan HOST"
			case probe.StringUnclear:
				a.code = exitPartly
				words, next = "cannot be told from this text", "give the whole output of: openssl version -a"
			default:
				a.code = exitRefused
			}
			if err := a.show(j, "%s", strings.Join(versionLines(words, j), "\n")); err != nil {
				return err
			}
			a.say("next: %s", next)
			return nil
		},
	}
}

// versionLines are a judgement in words.
func versionLines(words string, j probe.StringJudgement) []string {
	lines := []string{words + ": " + j.Reason}
	if j.Version != "" {
		lines = append(lines, "version: "+j.Version)
	}
	if j.Source != "" {
		lines = append(lines, "source:  "+j.Source)
	}
	return lines
}
