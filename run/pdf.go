package run

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"bulkhead"
)

// browsers that print, by the names under which distributions have them.
var browsers = []string{"chromium", "chromium-browser", "google-chrome"}

// printTimeout bounds one print: a report of hundreds of pages takes seconds.
const printTimeout = 2 * time.Minute

// PrintPDF prints a page that loads nothing from elsewhere. It needs a browser of the machine and is not part of what a
// certificate authority does: without one, the HTML is the report (KindUnavailable names the package).
func PrintPDF(ctx context.Context, page []byte) ([]byte, error) {
	var program string
	for _, name := range browsers {
		if p, err := exec.LookPath(name); err == nil {
			program = p
			break
		}
	}
	if program == "" {
		return nil, bulkhead.NewFault(bulkhead.KindUnavailable, "there is no chromium on this machine, which prints the PDF").
			WithHint("apt-get install chromium fonts-ipafont-gothic; or --format html")
	}
	dir, err := os.MkdirTemp("", "bulkhead-pdf-")
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindInternal, "no temporary folder").WithCause(err)
	}
	defer os.RemoveAll(dir)
	in, out := filepath.Join(dir, "page.html"), filepath.Join(dir, "page.pdf")
	if err := os.WriteFile(in, page, 0o600); err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindInternal, "the page cannot be written").WithCause(err)
	}
	ctx, cancel := context.WithTimeout(ctx, printTimeout)
	defer cancel()
	args := []string{"--headless", "--disable-gpu", "--disable-background-networking", "--disable-extensions", "--no-first-run", "--no-pdf-header-footer", "--user-data-dir=" + filepath.Join(dir, "profile"), "--print-to-pdf=" + out}
	if os.Geteuid() == 0 { // it refuses to shut itself in as root; the page is ours, has no script and loads nothing
		args = append(args, "--no-sandbox")
	}
	said, err := exec.CommandContext(ctx, program, append(args, "file://"+in)...).CombinedOutput()
	pdf, readErr := os.ReadFile(out)
	if err := errors.Join(err, readErr); err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUnavailable, "%s printed nothing: %.300s", filepath.Base(program), said).WithHint("--format html").WithCause(err)
	}
	return pdf, nil
}
