package signin_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/webauthn"
	"github.com/chromedp/chromedp"

	"bulkhead"
)

// chromium starts a browser with an empty profile. It talks to loopback only; the house's certificate comes from the house's
// own root, which it does not know.
func chromium(t *testing.T) context.Context {
	t.Helper()
	opts := []chromedp.ExecAllocatorOption{chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.WindowSize(900, 1200)}
	alloc, end := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(end)
	ctx, shut := chromedp.NewContext(alloc)
	t.Cleanup(shut)
	ctx, stop := context.WithTimeout(ctx, 90*time.Second)
	t.Cleanup(stop)
	return ctx
}

func do(t *testing.T, ctx context.Context, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		text, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
		t.Fatalf("%v; the page says: %s", err, text)
	}
}

// says waits until the page's message has a text.
func says(t *testing.T, ctx context.Context, text string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		got, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector("#message").textContent`))
		if err == nil && strings.Contains(got, text) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the page says %q and not %q: %v", got, text, err)
		}
	}
}

// addCredential is webauthn.AddCredential without the members that this browser does not take.
var addCredential = cdp.Command[addCredentialParams, cdp.Empty]{Method: webauthn.CommandAddCredential}

type addCredentialParams struct {
	AuthenticatorID webauthn.AuthenticatorID `json:"authenticatorId"`
	Credential      copiedCredential         `json:"credential"`
}

type copiedCredential struct {
	CredentialID         []byte  `json:"credentialId"`
	IsResidentCredential bool    `json:"isResidentCredential"`
	RpID                 string  `json:"rpId"`
	PrivateKey           []byte  `json:"privateKey"`
	UserHandle           []byte  `json:"userHandle"`
	SignCount            float64 `json:"signCount"`
}

// TestBrowser has a person do everything in a real browser, with the browser's own authenticator: register, sign in, approve
// what is shown, sign out. Then a copy of her key is used.
func TestBrowser(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := chromium(t)
	do(t, ctx, chromedp.Navigate("about:blank"))
	call := func(err error) {
		t.Helper()
		ok(t, err)
	}
	_, err := chromedp.Call(ctx, webauthn.Enable, webauthn.EnableParams{})
	call(err)
	added, err := chromedp.Call(ctx, webauthn.AddVirtualAuthenticator, webauthn.AddVirtualAuthenticatorParams{Options: &webauthn.VirtualAuthenticatorOptions{Protocol: webauthn.AuthenticatorProtocolCtap2,
		Transport: webauthn.AuthenticatorTransportUsb, HasResidentKey: true, HasUserVerification: true, IsUserVerified: true, AutomaticPresenceSimulation: true}})
	call(err)

	do(t, ctx, chromedp.Navigate(h.site+"/signin/register#"+h.invite("carol")), chromedp.SendKeys(chromedp.CSS("#label"), "blue"), chromedp.Click(chromedp.CSS("button[type=submit]")))
	says(t, ctx, "Registered for carol")
	open, err := h.Quorum.Requests(t.Context(), 10, bulkhead.RequestOpen)
	ok(t, err)
	if len(open) != 1 || open[0].Action != "operator.add" {
		t.Fatalf("%+v", open)
	}
	do(t, ctx, chromedp.Navigate(h.site+"/signin/"), chromedp.Click(chromedp.CSS("#use-key")))
	says(t, ctx, "belongs to no operator in office")
	h.sign(open[0].ID, h.keys[:]...)
	do(t, ctx, chromedp.Click(chromedp.CSS("#use-key")), chromedp.WaitVisible(chromedp.CSS("#inside")))
	who, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("#who")))
	if err != nil || who != "carol" {
		t.Fatalf("signed in as %q: %v", who, err)
	}

	// Operator 1 asks and signs with the key file; carol approves in the browser what she sees there.
	stop, err := h.Enroll.Stop(t.Context(), "operator:operator-1", bulkhead.Stop{Kind: bulkhead.StopAll, Reason: "a test"})
	ok(t, err)
	r, err := h.Quorum.Propose(t.Context(), "issuance.resume", map[string]string{"stop": stop.ID, "scope": "all", "why": "日本語 and “quotes”"}, "operator:operator-1", "mended")
	ok(t, err)
	h.sign(r.ID, h.keys[0])
	card := `article[data-request="` + r.ID + `"]`
	do(t, ctx, chromedp.Navigate(h.site+"/signin/"), chromedp.WaitVisible(chromedp.CSS(card)))
	shown, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS(card+" pre")))
	if err != nil || shown != string(r.Payload) {
		t.Errorf("the page shows %q of %q: %v", shown, r.Payload, err)
	}
	do(t, ctx, chromedp.Click(chromedp.CSS(card+" button")))
	says(t, ctx, "Approved, and executed")
	if s, err := h.Store.Stop(t.Context(), stop.ID); err != nil || s.InForce() {
		t.Errorf("the stop is still there: %v", err)
	}
	proven(t, h, r.ID, "carol")

	do(t, ctx, chromedp.Click(chromedp.CSS("#sign-out")), chromedp.WaitVisible(chromedp.CSS("#outside")))
	// A copy of the key, taken before it is used once more.
	copied, err := chromedp.Call(ctx, webauthn.GetCredentials, webauthn.GetCredentialsParams(added))
	call(err)
	old := copied.Credentials[0]
	do(t, ctx, chromedp.Click(chromedp.CSS("#use-key")), chromedp.WaitVisible(chromedp.CSS("#inside")), chromedp.Click(chromedp.CSS("#sign-out")), chromedp.WaitVisible(chromedp.CSS("#outside")))
	_, err = chromedp.Call(ctx, webauthn.ClearCredentials, webauthn.ClearCredentialsParams(added))
	call(err)
	_, err = chromedp.Call(ctx, addCredential, addCredentialParams{added.AuthenticatorID, copiedCredential{old.CredentialID, true, old.RpID, old.PrivateKey, old.UserHandle, old.SignCount}})
	call(err)
	do(t, ctx, chromedp.Click(chromedp.CSS("#use-key")))
	says(t, ctx, "counts backwards")
	// Without the person verified the browser itself gives nothing.
	_, err = chromedp.Call(ctx, webauthn.SetUserVerified, webauthn.SetUserVerifiedParams{AuthenticatorID: added.AuthenticatorID, IsUserVerified: false})
	call(err)
	do(t, ctx, chromedp.Click(chromedp.CSS("#use-key")))
	says(t, ctx, "not allowed")
	if code, _ := h.call(h.browser(), http.MethodGet, "/signin/session", nil); code != http.StatusUnauthorized {
		t.Errorf("a stranger's session: %d", code)
	}
}
