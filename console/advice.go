package console

import (
	"context"
	"net/http"
	"time"

	"bulkhead"
)

// Adviser says what the holder of one certificate has to do, with what is known of it filled in.
type Adviser interface {
	Advise(ctx context.Context, ref bulkhead.CertificateRef, language string) (AdviceView, error)
}

// AdviceView is the five steps for one certificate.
type AdviceView struct {
	Certificate string       `json:"certificate"`
	Language    string       `json:"language"`
	Headline    string       `json:"headline"`
	Needed      bool         `json:"needed"` // something is to be done as far as it is known
	Seen        bool         `json:"seen"`   // the house has looked at its names
	LookedAt    time.Time    `json:"looked_at,omitzero"`
	Steps       []AdviceStep `json:"steps"`
	Text        string       `json:"text"`
}

// AdviceStep is one of the five.
type AdviceStep struct {
	Number int    `json:"number"`
	Title  string `json:"title"`
	State  string `json:"state"` // done, to do, or not known
	Text   string `json:"text"`
}

func (a *API) adviceRoutes() {
	route(a, "GET /api/v1/certificates/{serial}/advice", operation[none, AdviceView]{id: "adviseCertificate", access: anybodyKnown, do: a.advise,
		summary: "what the holder has to do: patch, new key, reissue, install, revoke, with what is known of it filled in; accounts ask about their own",
		query:   []parameter{{name: "issuer", about: "authority, where two share the serial"}, {name: "lang", about: "language of the words", values: []string{"en", "ja"}}}})
}

func (a *API) advise(ctx context.Context, w who, r *http.Request, _ none) (AdviceView, error) {
	c, err := a.resolve(ctx, w, r.PathValue("serial"), r.URL.Query().Get("issuer"))
	if err != nil {
		return AdviceView{}, err
	}
	return a.cfg.Adviser.Advise(ctx, c.CertificateRef, r.URL.Query().Get("lang"))
}
