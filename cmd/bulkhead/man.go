package main

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"bulkhead"
)

//go:generate go test -run TestManPages -update

// completion prints a script for a shell.
func (a *app) completion() *cobra.Command {
	scripts := map[string]func(*cobra.Command, *bytes.Buffer) error{
		"bash":       func(c *cobra.Command, b *bytes.Buffer) error { return c.GenBashCompletionV2(b, true) },
		"zsh":        func(c *cobra.Command, b *bytes.Buffer) error { return c.GenZshCompletion(b) },
		"fish":       func(c *cobra.Command, b *bytes.Buffer) error { return c.GenFishCompletion(b, true) },
		"powershell": func(c *cobra.Command, b *bytes.Buffer) error { return c.GenPowerShellCompletionWithDesc(b) },
	}
	return &cobra.Command{
		Use: "completion bash|zsh|fish|powershell", Short: "print a completion script for a shell", Args: exactly(1, "bash, zsh, fish or powershell"),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Example:   "  source <(bulkhead completion bash)\n  bulkhead completion zsh > \"${fpath[1]}/_bulkhead\"\n  bulkhead completion fish > ~/.config/fish/completions/bulkhead.fish",
		RunE: func(c *cobra.Command, args []string) error {
			script := scripts[args[0]]
			if script == nil {
				return bulkhead.Faultf(bulkhead.KindUsage, "there is no completion for %q", args[0]).WithHint("bulkhead completion bash, zsh, fish or powershell")
			}
			var b bytes.Buffer
			if err := script(c.Root(), &b); err != nil {
				return fmt.Errorf("writing the script: %w", err)
			}
			return a.show(map[string]string{"shell": args[0], "script": b.String()}, "%s", b.String())
		},
	}
}

// man prints the manual page of a command, as roff.
func (a *app) man() *cobra.Command {
	return &cobra.Command{
		Use: "man [COMMAND…]", Short: "print the manual page of a command", Args: cobra.ArbitraryArgs,
		Example: "  bulkhead man cert list | man -l -\n  bulkhead man issue > /usr/local/share/man/man1/bulkhead-issue.1",
		RunE: func(c *cobra.Command, args []string) error {
			of := c.Root()
			for _, name := range args {
				var next *cobra.Command
				for _, sub := range of.Commands() {
					if sub.Name() == name {
						next = sub
					}
				}
				if next == nil {
					return bulkhead.Faultf(bulkhead.KindUsage, "%s has no command %q", of.CommandPath(), name).WithHint(of.CommandPath() + " --help")
				}
				of = next
			}
			page := manPage(of)
			return a.show(map[string]string{"name": pageName(of), "page": page}, "%s", page)
		},
	}
}

// pageName is the name of a command's page: bulkhead-cert-list.
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// documented lists a command and all below it that have a page.
func documented(c *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			out = append(out, documented(sub)...)
		}
	}
	return out
}

// manPage writes a page of section 1 (man-pages(7)).
func manPage(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"bulkhead\" \"bulkhead manual\"\n.SH NAME\n%s \\- %s\n", roff(strings.ToUpper(pageName(c))), roff(pageName(c)), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(c.CommandPath()))
	if _, rest, ok := strings.Cut(c.Use, " "); ok {
		b.WriteString(roff(rest) + "\n")
	}
	b.WriteString("[flags]\n")
	if c.Long != "" {
		b.WriteString(".SH DESCRIPTION\n" + paragraphs(c.Long))
	}
	if subs := c.Commands(); len(subs) > 0 {
		b.WriteString(".SH COMMANDS\n")
		for _, sub := range subs {
			if sub.IsAvailableCommand() && sub.Name() != "help" {
				fmt.Fprintf(&b, ".TP\n.BR %s (1)\n%s\n", roff(pageName(sub)), roff(sub.Short))
			}
		}
	}
	c.InitDefaultHelpFlag()
	flags(&b, "OPTIONS", c.NonInheritedFlags())
	flags(&b, "OPTIONS OF EVERY COMMAND", c.InheritedFlags())
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n.nf\n" + roff(c.Example) + "\n.fi\n")
	}
	b.WriteString(".SH EXIT STATUS\n0 done, 1 failed, 2 usage, 3 refused by a safety gate or findings present, 4 partly done, 5 unreachable.\n")
	if c.HasParent() {
		fmt.Fprintf(&b, ".SH SEE ALSO\n.BR %s (1)\n", roff(pageName(c.Parent())))
	}
	return b.String()
}

func flags(b *strings.Builder, title string, set *pflag.FlagSet) {
	var list []*pflag.Flag
	set.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			list = append(list, f)
		}
	})
	if len(list) == 0 {
		return
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	fmt.Fprintf(b, ".SH %s\n", title)
	for _, f := range list {
		name, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "-" + f.Shorthand + ", "
		}
		if name != "" {
			name = " " + strings.ToUpper(name)
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && !strings.Contains(usage, "default") {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR%s\n%s\n", roff(short+"--"+f.Name), roff(name), roff(usage))
	}
}

func paragraphs(text string) string {
	return roff(strings.ReplaceAll(strings.TrimSpace(text), "\n\n", "\n.PP\n")) + "\n"
}

// roff escapes text: backslashes, hyphens that are minus signs, and a control character at the beginning of a line.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(text)
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") && l != ".PP" || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
