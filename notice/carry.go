package notice

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
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"

	"bulkhead"
)

// Carry implements Carrier: one connection for the batch, and an answer for each message.
func (m *Mail) Carry(ctx context.Context, batch []Outgoing) []Outcome {
	out := make([]Outcome, len(batch))
	var msgs []*gomail.Msg
	var at []int
	for i, o := range batch {
		msg, err := m.message(o)
		if err != nil {
			out[i] = Outcome{bulkhead.NoticeBounced, err.Error()}
			continue
		}
		msgs, at = append(msgs, msg), append(at, i)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(len(batch)+1)*sendTimeout)
	defer cancel()
	err := m.client.DialAndSendWithContext(ctx, msgs...)
	for n, msg := range msgs {
		out[at[n]] = judge(msg, err)
	}
	return out
}

// judge reads what the relay said of one message. Only a refusal before the end of the data, or with a code after it, is
// a refusal; a connection that broke after the data was handed over leaves doubt.
func judge(msg *gomail.Msg, err error) Outcome {
	if msg.IsDelivered() {
		return Outcome{State: bulkhead.NoticeSent}
	}
	var e *gomail.SendError
	if !errors.As(msg.SendError(), &e) {
		if err == nil {
			return Outcome{bulkhead.NoticeInDoubt, "the relay said nothing"}
		}
		return Outcome{bulkhead.NoticePlanned, short(err)}
	}
	switch code := e.ErrorCode(); {
	case code >= 500 && (e.Reason == gomail.ErrSMTPRcptTo || e.Reason == gomail.ErrSMTPDataClose):
		return Outcome{bulkhead.NoticeBounced, short(e)}
	case code == 0 && (e.Reason == gomail.ErrSMTPDataClose || e.Reason == gomail.ErrWriteContent):
		return Outcome{bulkhead.NoticeInDoubt, short(e)}
	}
	return Outcome{bulkhead.NoticePlanned, short(e)}
}

func short(err error) string { return strings.ToValidUTF8(clip(err.Error(), 300), "") }

func (m *Mail) message(o Outgoing) (*gomail.Msg, error) {
	msg := gomail.NewMsg()
	if err := errors.Join(msg.From(m.cfg.From), msg.To(o.To)); err != nil {
		return nil, fmt.Errorf("mail: %w", err)
	}
	msg.Subject(o.Subject)
	msg.SetDate()
	msg.SetMessageIDWithValue(o.MessageID)
	msg.SetGenHeader("Auto-Submitted", "auto-generated")
	msg.SetBodyString(gomail.TypeTextPlain, o.Body)
	return msg, nil
}

// Carry implements Carrier.
func (w *Webhook) Carry(ctx context.Context, batch []Outgoing) []Outcome {
	out := make([]Outcome, len(batch))
	for i, o := range batch {
		out[i] = w.carry(ctx, o)
	}
	return out
}

func (w *Webhook) carry(ctx context.Context, o Outgoing) Outcome {
	body, err := json.Marshal(struct {
		Event        string          `json:"event"`
		ID           string          `json:"id"` // the same message has the same id
		House        string          `json:"house"`
		Incident     string          `json:"incident"`
		Step         string          `json:"step"`
		Day          string          `json:"day"`
		Account      string          `json:"account"`
		What         json.RawMessage `json:"what"`
		Do           json.RawMessage `json:"do"`
		Until        time.Time       `json:"until,omitzero"`
		Certificates []Item          `json:"certificates"`
	}{"incident", o.MessageID, o.Letter.House, o.About.Incident, o.About.Step, o.Letter.Step.Day, o.About.Account, json.RawMessage(o.Letter.Step.What), json.RawMessage(o.Letter.Step.Do), o.Letter.Step.Until, o.Letter.Items})
	if err != nil {
		return Outcome{bulkhead.NoticeBounced, err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return Outcome{bulkhead.NoticePlanned, short(err)}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", o.MessageID)
	if len(w.secret) > 0 {
		req.Header.Set("Bulkhead-Signature", SignWebhook(w.secret, o.About.MovedAt, body))
	}
	res, err := w.client.Do(req)
	if err != nil { // the receiver knows the id: sending it again tells nobody twice
		return Outcome{bulkhead.NoticePlanned, short(err)}
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return Outcome{bulkhead.NoticePlanned, "answered " + res.Status}
	}
	return Outcome{State: bulkhead.NoticeSent}
}

// SignWebhook is the value of Bulkhead-Signature: HMAC-SHA256 over "TIME.BODY" with the shared secret, TIME in seconds.
func SignWebhook(secret []byte, at time.Time, body []byte) string {
	h := hmac.New(sha256.New, secret)
	fmt.Fprintf(h, "%d.", at.Unix())
	h.Write(body)
	return fmt.Sprintf("t=%d,v1=%s", at.Unix(), hex.EncodeToString(h.Sum(nil)))
}

// Signed is the webhook with a secret that both sides know.
func (w *Webhook) Signed(secret []byte) *Webhook {
	c := *w
	c.secret = secret
	return &c
}
