package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
)

func (a *app) alarms() *cobra.Command {
	var all bool
	c := &cobra.Command{Use: "alarms", Short: "what the detectors raised, and who took it", Args: exactly(0, "no arguments"),
		Long: "Lists alarms, the last seen first: those that nobody has acknowledged, or all of them. Below each stands its page in doc/runbooks.",
		RunE: func(c *cobra.Command, _ []string) error {
			return get(a, c, "/api/v1/alarms", func(v map[string][]console.AlarmView) string { return alarmText(v["alarms"], all) })
		}}
	c.Flags().BoolVar(&all, "all", false, "those that were acknowledged too")
	c.AddCommand(a.alarmsAck(), a.alarmsSighted())
	return c
}

func alarmText(list []console.AlarmView, all bool) string {
	var rows []string
	taken := 0
	for _, x := range list {
		if x.AckedAt != nil && !all {
			taken++
			continue
		}
		rows = append(rows, fmt.Sprintf("%d\t%s\t%s\t%s\t%d\t%s", x.ID, x.LastAt.Format("2006-01-02 15:04:05"), x.Detector, x.Severity, x.Count, x.Message))
		if x.Runbook != "" {
			rows = append(rows, "\t\t\t\t\tread "+bulkhead.RunbookPage(x.Runbook))
		}
		if x.AckedAt != nil {
			rows = append(rows, fmt.Sprintf("\t\t\t\t\ttaken by %s: %s", x.AckedBy, x.AckReason))
		}
	}
	text := "no alarms"
	if len(rows) > 0 {
		text = table("ID\tLAST\tDETECTOR\tSEVERITY\tCOUNT\tMESSAGE", rows) + "\n\nnext: read the page named with it, then: bulkhead alarms ack ID --reason TEXT"
	}
	if taken > 0 {
		text += fmt.Sprintf("\n%d more were acknowledged: bulkhead alarms --all", taken)
	}
	return text
}

func (a *app) alarmsAck() *cobra.Command {
	var in console.AcknowledgeRequest
	var dry bool
	c := &cobra.Command{Use: "ack ID", Short: "take an alarm: it is not delivered any more, and quiet while the same trouble goes on", Args: exactly(1, "the number of an alarm"),
		RunE: func(c *cobra.Command, args []string) error {
			if id, err := strconv.ParseInt(args[0], 10, 64); err != nil || id < 1 {
				return bulkhead.Faultf(bulkhead.KindUsage, "%q is no number of an alarm", args[0]).WithHint("bulkhead alarms")
			}
			var v console.AlarmView
			if shown, err := a.post(c.Context(), dry, "/api/v1/alarms/"+args[0]+"/acknowledgement", in, &v); shown || err != nil {
				return err
			}
			return a.show(v, "alarm %d is yours: %s", v.ID, v.Message)
		}}
	c.Flags().StringVar(&in.Reason, "reason", "", "what was found, or who is on it; required")
	dryRunFlag(c, &dry)
	return c
}
