package deliver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"bulkhead"
)

// SignatureHeader carries "sha256=" and the hexadecimal HMAC-SHA-256 of the body under the shared key.
const SignatureHeader = "X-Bulkhead-Signature"

// LeastKey is how many octets a webhook's key has at least.
const LeastKey = 16

// Webhook posts alarms as JSON to one URL.
type Webhook struct {
	url    string
	house  string
	key    []byte
	client *http.Client
	now    func() time.Time
}

// NewWebhook checks URL and key.
func NewWebhook(target, house string, key []byte, now func() time.Time) (*Webhook, error) {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return nil, errors.New("the webhook is not an http or https URL")
	}
	if len(key) < LeastKey {
		return nil, fmt.Errorf("the webhook's key has fewer than %d octets", LeastKey)
	}
	return &Webhook{url: target, house: house, key: key, now: now,
		client: &http.Client{Timeout: sendTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}, nil
}

// Message is the body of a webhook.
type Message struct {
	Event    string            `json:"event"` // "alarm"
	House    string            `json:"house"`
	SentAt   time.Time         `json:"sent_at"`
	ID       int64             `json:"id"` // with house: for telling a repetition
	Detector string            `json:"detector"`
	Key      string            `json:"key"`
	Severity bulkhead.Severity `json:"severity"`
	Message  string            `json:"message"`
	Runbook  string            `json:"runbook"`
	FirstAt  time.Time         `json:"first_at"`
	LastAt   time.Time         `json:"last_at"`
	Count    int64             `json:"count"`
}

// Send implements Sender. Any 2xx is acceptance.
func (w *Webhook) Send(ctx context.Context, a bulkhead.Alarm) error {
	body, err := json.Marshal(Message{"alarm", w.house, w.now().UTC(), a.ID, a.Detector, a.Key, a.Severity, a.Message, a.Runbook, a.FirstAt.UTC(), a.LastAt.UTC(), a.Count})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("webhook: the request cannot be made")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(SignatureHeader, Sign(w.key, body))
	res, err := w.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the URL may hold a token
		}
		return fmt.Errorf("webhook: %w", err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again; what it says is nothing to us
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("webhook: answered %s", res.Status)
	}
	return nil
}

// Sign makes the value of SignatureHeader.
func Sign(key, body []byte) string {
	m := hmac.New(sha256.New, key)
	m.Write(body)
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// Verify tells a receiver whether a body is what the house sent; the comparison takes the same time for every signature.
func Verify(key, body []byte, header string) bool {
	return hmac.Equal([]byte(Sign(key, body)), []byte(header))
}
