package notice

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"bulkhead"
)

// sendTimeout bounds one attempt.
const sendTimeout = 30 * time.Second

// Webhook posts JSON to one configured URL.
type Webhook struct {
	url    string
	client *http.Client
	secret []byte // of Bulkhead-Signature; nil signs nothing
}

// NewWebhook makes a webhook.
func NewWebhook(url string) *Webhook {
	return &Webhook{url: url, client: &http.Client{Timeout: sendTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Channel implements Sender.
func (*Webhook) Channel() bulkhead.NoticeChannel { return bulkhead.NoticeWebhook }

// Recipients implements Sender: the one URL, whatever it is.
func (*Webhook) Recipients(bulkhead.Expiring) []string { return []string{"webhook"} }

// Send implements Sender. Any 2xx is acceptance.
func (w *Webhook) Send(ctx context.Context, _ string, m Message) error {
	body, err := json.Marshal(struct {
		Event        string `json:"event"`
		House        string `json:"house"`
		Certificates []Item `json:"certificates"`
	}{"certificates-expiring", m.House, m.Certificates})
	if err != nil {
		return fmt.Errorf("notice: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("notice: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := w.client.Do(req)
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	defer res.Body.Close()
	if _, err := io.CopyN(io.Discard, res.Body, 64<<10); err != nil && err != io.EOF {
		return fmt.Errorf("webhook: %w", err)
	}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("webhook: answered %s", res.Status)
	}
	return nil
}
