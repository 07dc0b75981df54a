package check_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"bulkhead"
)

// browser starts Chromium with an empty profile. It talks to loopback only.
func browser(t *testing.T) context.Context {
	t.Helper()
	opts := []chromedp.ExecAllocatorOption{chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "ja"), chromedp.WindowSize(900, 1200)}
	alloc, end := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(end)
	ctx, shut := chromedp.NewContext(alloc)
	t.Cleanup(shut)
	ctx, stop := context.WithTimeout(ctx, 90*time.Second)
	t.Cleanup(stop)
	return ctx
}

// got runs an action and wants it to succeed.
func got[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// keep writes a picture of the page for somebody who wants to look at it.
func keep(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	shot := got(t, ctx, chromedp.FullScreenshot(100))
	if dir := os.Getenv("BULKHEAD_SHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name), shot, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBrowser goes the way of a site owner in a real browser, with JavaScript switched off: the page needs none.
func TestBrowser(t *testing.T) {
	s := serve(t, &looker{reason: bulkhead.ReasonOverread})
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true}); err != nil {
		t.Fatal(err)
	}
	err := chromedp.Do(ctx, chromedp.Navigate(s.URL+"/check/?lang=ja"), chromedp.SendKeys(chromedp.CSS("#target"), "www.example.jp"),
		chromedp.Click(chromedp.CSS("button[type=submit]")), chromedp.WaitVisible(chromedp.CSS(".verdict")))
	if err != nil {
		t.Fatal(err)
	}
	keep(t, ctx, "result-ja.png")
	verdict, headline, at := got(t, ctx, chromedp.Text(chromedp.CSS(".verdict"))), got(t, ctx, chromedp.Text(chromedp.CSS(".headline"))), got(t, ctx, chromedp.Location())
	if verdict != "脆弱性あり" || !strings.Contains(headline, "www.example.jp") || !strings.Contains(at, "/check/r/") {
		t.Errorf("%q %q %s", verdict, headline, at)
	}
	if err := chromedp.Do(ctx, chromedp.Click(chromedp.CSS("header a[hreflang=en]")), chromedp.WaitVisible(chromedp.CSS("html[lang=en] .verdict"))); err != nil {
		t.Fatal(err)
	}
	if other := got(t, ctx, chromedp.Text(chromedp.CSS(".verdict"))); other != "Vulnerable" {
		t.Error(other)
	}
}

// TestBrowserStyle: with scripts on, the policy of the page lets its style in and nothing else, and the form has its label.
func TestBrowserStyle(t *testing.T) {
	s := serve(t, &looker{reason: bulkhead.ReasonNotNegotiated})
	ctx := browser(t)
	if err := chromedp.Do(ctx, chromedp.Navigate(s.URL+"/check/?lang=en"), chromedp.WaitVisible(chromedp.CSS("#target"))); err != nil {
		t.Fatal(err)
	}
	keep(t, ctx, "form-en.png")
	border := got(t, ctx, chromedp.Evaluate[string](`getComputedStyle(document.querySelector("form")).borderTopStyle`))
	label := got(t, ctx, chromedp.Evaluate[string](`document.querySelector("#target").labels[0].textContent`))
	scripts := got(t, ctx, chromedp.Evaluate[int](`document.scripts.length`))
	if border != "solid" || label != "Host name or address" || scripts != 0 {
		t.Errorf("border %q, label %q, %d scripts", border, label, scripts)
	}
}
