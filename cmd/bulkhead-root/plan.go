package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/ceremony"
)

// planDoc is a plan to read aloud.
type planDoc struct {
	Title    string   `json:"title"`
	Words    []string `json:"words"`
	Hash     string   `json:"hash"`
	NewPower []string `json:"new_power"` // compared with the plan of --against; empty without
}

func readPlan(path string) (ceremony.Plan, error) {
	text, err := readFile(path, "plan")
	if err != nil {
		return ceremony.Plan{}, err
	}
	return ceremony.ParsePlan(text)
}

func (t *tool) planCommand() *cobra.Command {
	var against string
	c := &cobra.Command{Use: "plan FILE", Short: "check a plan, say it in words to read aloud, and print the hash that run quotes", Args: exactly(1, "the file of a plan"),
		Long: "With --against OLD the plan is compared with an earlier one, and every power that it grants and OLD does not is named; exit 3 when there is any.",
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := readPlan(args[0])
			if err != nil {
				return err
			}
			doc := planDoc{Title: p.Title, Words: p.Words(time.Now()), Hash: p.Digest().String(), NewPower: []string{}}
			var b strings.Builder
			for _, line := range doc.Words {
				fmt.Fprintln(&b, line)
			}
			if against != "" {
				old, err := readPlan(against)
				if err != nil {
					return err
				}
				doc.NewPower = p.NewPower(old)
				for _, x := range doc.NewPower {
					fmt.Fprintf(&b, "NEW POWER: %s\n", x)
				}
			}
			fmt.Fprintf(&b, "\nhash  %s", p.Grouped())
			if err := t.show(doc, b.String()); err != nil {
				return err
			}
			t.say("next: read it aloud, compare the file, then: bulkhead-root run %s --plan-hash %s", args[0], doc.Hash)
			if len(doc.NewPower) > 0 {
				return errFindings
			}
			return nil
		}}
	c.Flags().StringVar(&against, "against", "", "an earlier plan: name every power that this one grants and that one does not")
	return c
}

// quoted checks the hash that the operator read from the plan; blanks and dashes do not matter.
func quoted(p ceremony.Plan, hash string) error {
	text := strings.ToLower(strings.NewReplacer(" ", "", "-", "", ":", "").Replace(hash))
	if text == "" {
		return bulkhead.NewFault(bulkhead.KindUsage, "the hash of the plan is missing").WithHint("bulkhead-root plan FILE, then run with --plan-hash")
	}
	h, err := bulkhead.ParseHash(text)
	if err != nil {
		return bulkhead.NewFault(bulkhead.KindUsage, "--plan-hash is not a SHA-256 in hex").WithHint("bulkhead-root plan FILE prints it").WithCause(err)
	}
	if h != p.Digest() {
		return bulkhead.NewFault(bulkhead.KindGate, "the hash quoted is of another plan; nothing was signed").WithHint("bulkhead-root plan FILE: read this plan, and quote its hash")
	}
	return nil
}
