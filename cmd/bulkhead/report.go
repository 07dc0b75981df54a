package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/run"
	"bulkhead/run/client"
)

func (a *app) incidentSet() *cobra.Command {
	var in console.FieldRequest
	var file string
	var dry bool
	c := &cobra.Command{Use: "set ID FIELD [TEXT]", Short: "write one field of the reports, or confirm what the record says for it",
		Long: "What only people know goes into fields; what is computed waits for --confirm. Which fields a report still lacks,\nand the command for each: bulkhead incident report ID --check. All fields: doc/reports.md.",
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) < 2 || len(args) > 3 || (len(args) == 3) == (file != "" || in.Confirm) || file != "" && in.Confirm {
				return bulkhead.NewFault(bulkhead.KindUsage, "an incident, a field, and one of: a text, --file, --confirm").WithHint("bulkhead incident set --help")
			}
			in.Field = args[1]
			if len(args) == 3 {
				in.Text = args[2]
			}
			if file != "" {
				text, err := readText(file)
				if err != nil {
					return err
				}
				in.Text = text
			}
			var v console.FieldView
			if shown, err := a.post(c.Context(), dry, "/api/v1/incidents/"+url.PathEscape(args[0])+"/fields", in, &v); shown || err != nil {
				return err
			}
			return a.show(v, "%s is kept, leaf %d\nnext: bulkhead incident report %s --check", v.Field, v.Leaf, args[0])
		}}
	c.Flags().StringVar(&file, "file", "", "read the text from this file, - for standard input")
	c.Flags().BoolVar(&in.Confirm, "confirm", false, "what the record says for this field is right")
	dryRunFlag(c, &dry)
	return c
}

// readText reads a file of text, or standard input, with a bound.
func readText(path string) (string, error) {
	const most = 1 << 20
	var r io.Reader = os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithCause(err)
		}
		defer f.Close()
		r = f
	}
	text, err := io.ReadAll(io.LimitReader(r, most))
	if err != nil {
		return "", bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithCause(err)
	}
	return strings.TrimSpace(string(text)), nil
}

// reportFlags is how a document is wanted.
type reportFlags struct {
	lang, format, out string
}

func (f *reportFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.lang, "lang", "en", "language of the labels: en or ja")
	c.Flags().StringVar(&f.format, "format", "md", "md, html or pdf (pdf needs chromium on this machine)")
	c.Flags().StringVar(&f.out, "out", "", "write the document and what belongs to it into this folder; default: to standard output")
}

func (f *reportFlags) check() error {
	switch f.format {
	case "md", "html":
		return nil
	case "pdf":
		if f.out == "" {
			return bulkhead.NewFault(bulkhead.KindUsage, "a PDF is written into a folder").WithHint("--out DIR")
		}
		return nil
	}
	return bulkhead.Faultf(bulkhead.KindUsage, "there is no format %q", f.format).WithHint("--format md, html or pdf")
}

// render is the document in the wanted form.
func (f *reportFlags) render(ctx context.Context, markdown, html string) ([]byte, error) {
	switch f.format {
	case "html":
		return []byte(html), nil
	case "pdf":
		return run.PrintPDF(ctx, []byte(html))
	}
	return []byte(markdown), nil
}

func (a *app) incidentReport() *cobra.Command {
	var kinds [4]bool
	var f reportFlags
	var check bool
	var proof string
	c := &cobra.Command{Use: "report ID", Short: "write an incident report from the record; --check names each gap and the command that closes it",
		Long: "Writes the report by the CCADB's template. Numbers come from the record, each with the leaf that proves it; texts come\nfrom bulkhead incident set. --check writes nothing and ends with exit code 3 while a mandatory element is missing.\nWith --out the drawings and the appendix (certificates.csv, and fingerprints.txt from 10000 on) are written beside it.",
		Args: exactly(1, "the id of an incident"), RunE: func(c *cobra.Command, args []string) error {
			kind, err := oneKind(kinds)
			if err != nil {
				return err
			}
			if err := f.check(); err != nil {
				return err
			}
			q := url.Values{"kind": {kind}, "language": {f.lang}}
			if proof != "" {
				text, err := os.ReadFile(proof)
				if err != nil {
					return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", proof).WithHint("--proof FILE: what bulkhead audit prove wrote").WithCause(err)
				}
				if err := reconciled(proof, text); err != nil {
					return err
				}
				q.Set("proof_path", filepath.Base(proof))
				q.Set("proof", bulkhead.Digest(text).String())
			}
			cl, err := client.New(a.opts)
			if err != nil {
				return err
			}
			base := "/api/v1/incidents/" + url.PathEscape(args[0])
			var v bulkhead.IncidentReport
			if err := cl.Do(c.Context(), http.MethodGet, base+"/report?"+q.Encode(), nil, &v); err != nil {
				return err
			}
			if check {
				return a.showGaps(v)
			}
			return a.writeReport(c.Context(), cl, base, v, f)
		}}
	for i, k := range []string{"preliminary", "full", "delay", "closure"} {
		c.Flags().BoolVar(&kinds[i], k, false, []string{"the first report, due 72 hours after the house became aware", "the full report, due 14 days after the first (default)", "the report that a revocation will be late",
			"the summary that asks to close the bug"}[i])
	}
	c.Flags().BoolVar(&check, "check", false, "only say what is missing")
	c.Flags().StringVar(&proof, "proof", "", "document of bulkhead audit prove, referred to by its digest")
	f.add(c)
	return c
}

func oneKind(chosen [4]bool) (string, error) {
	kind := ""
	for i, k := range []string{"preliminary", "full", "delay", "closure"} {
		if !chosen[i] {
			continue
		}
		if kind != "" {
			return "", bulkhead.NewFault(bulkhead.KindUsage, "one report at a time").WithHint("--" + kind + " or --" + k)
		}
		kind = k
	}
	return kind, nil
}

// showGaps prints what a report lacks; exit code 3 when it lacks anything.
func (a *app) showGaps(v bulkhead.IncidentReport) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of incident %s: %d gaps", v.Kind, v.Incident, len(v.Missing))
	if v.Incident == "" {
		b.Reset()
		fmt.Fprintf(&b, "%s: %d gaps", v.Kind, len(v.Missing))
	}
	if len(v.Missing) == 0 {
		return a.show(v.Missing, "%s; nothing that is mandatory is missing", b.String())
	}
	for _, m := range v.Missing {
		fmt.Fprintf(&b, "\n%s\n    %s", m.What, m.Command)
	}
	if err := a.show(v.Missing, "%s", b.String()); err != nil {
		return err
	}
	return errFindings
}

func (a *app) writeReport(ctx context.Context, cl *client.Client, base string, v bulkhead.IncidentReport, f reportFlags) error {
	body, err := f.render(ctx, v.Markdown, v.HTML)
	if err != nil {
		return err
	}
	if f.out == "" {
		if a.json {
			return a.print(v)
		}
		_, err := a.out.Write(body)
		return err
	}
	if err := os.MkdirAll(f.out, 0o755); err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be made", f.out).WithCause(err)
	}
	files := []string{v.Kind + "." + f.format}
	write := func(name string, p []byte) error {
		if err := os.WriteFile(filepath.Join(f.out, name), p, 0o644); err != nil {
			return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be written", filepath.Join(f.out, name)).WithCause(err)
		}
		return nil
	}
	if err := write(files[0], body); err != nil {
		return err
	}
	if f.format == "md" {
		for _, name := range []string{"timeline.svg", "replacement.svg"} {
			if svg, ok := v.Pictures[name]; ok {
				if err := write(name, []byte(svg)); err != nil {
					return err
				}
				files = append(files, name)
			}
		}
	}
	more, err := appendix(ctx, cl, base, f.out)
	if err != nil {
		return err
	}
	files = append(files, more...)
	text := fmt.Sprintf("wrote %s into %s", strings.Join(files, ", "), f.out)
	if n := len(v.Missing); n > 0 {
		text += fmt.Sprintf("\n%d mandatory elements are missing and marked in it\nnext: bulkhead incident report %s --%s --check", n, v.Incident, v.Kind)
	}
	return a.show(struct {
		Folder  string               `json:"folder"`
		Files   []string             `json:"files"`
		Missing []bulkhead.ReportGap `json:"missing"`
	}{f.out, files, v.Missing}, "%s", text)
}

// listAt is from how many certificates on a list of fingerprints is wanted.
const listAt = 10_000

// appendix fetches the table page by page, so that a set of millions needs no memory.
func appendix(ctx context.Context, cl *client.Client, base, dir string) (files []string, err error) {
	broken := func(err error) error {
		return bulkhead.Faultf(bulkhead.KindUsage, "the appendix cannot be written into %s", dir).WithCause(err)
	}
	table, err := os.Create(filepath.Join(dir, "certificates.csv"))
	if err != nil {
		return nil, broken(err)
	}
	defer table.Close()
	list, err := os.Create(filepath.Join(dir, "fingerprints.txt"))
	if err != nil {
		return nil, broken(err)
	}
	defer list.Close()
	w, n := csv.NewWriter(table), 0
	for after := int64(0); ; {
		var page bulkhead.AppendixPage
		if err := cl.Do(ctx, http.MethodGet, fmt.Sprintf("%s/appendix?after=%d&limit=1000", base, after), nil, &page); err != nil {
			return nil, err
		}
		if after == 0 {
			if err := w.Write(page.Columns); err != nil {
				return nil, broken(err)
			}
		}
		for _, row := range page.Rows {
			if err := w.Write(row); err != nil {
				return nil, broken(err)
			}
			if _, err := fmt.Fprintln(list, row[1]); err != nil {
				return nil, broken(err)
			}
			n++
		}
		if after = page.Next; after == 0 {
			break
		}
	}
	if w.Flush(); w.Error() != nil {
		return nil, broken(w.Error())
	}
	if n < listAt {
		return []string{"certificates.csv"}, os.Remove(list.Name())
	}
	return []string{"certificates.csv", "fingerprints.txt"}, nil
}

// reconciled refuses a proof that says something else than the report would claim with it.
func reconciled(path string, text []byte) error {
	var p struct {
		OK        *bool             `json:"ok"`
		Negatives []json.RawMessage `json:"negatives"`
	}
	if err := json.Unmarshal(text, &p); err != nil || p.OK == nil || len(p.Negatives) == 0 {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s is no document of bulkhead audit prove", path).WithHint("bulkhead audit prove --all --out " + path).WithCause(err)
	}
	if !*p.OK {
		return bulkhead.Faultf(bulkhead.KindGate, "the proof in %s did not reconcile: a report cannot claim with it that the keys have no part", path).WithHint("read its findings; leave --proof out until they are explained")
	}
	return nil
}
