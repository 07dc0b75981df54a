package signerrpc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net/http"

	"bulkhead"
)

// shadowRequest asks what would be said with a change; nil serials stand for everything of the authority.
type shadowRequest struct {
	Change    string               `json:"change"`
	Authority bulkhead.AuthorityID `json:"authority"`
	Serials   []bulkhead.Serial    `json:"serials"`
}

// shadowLine is one line of the stream: an answer, or the end, or what went wrong. A stream without an end is broken off.
type shadowLine struct {
	Answer *bulkhead.ShadowAnswer `json:"answer,omitempty"`
	End    bool                   `json:"end,omitempty"`
	Fault  *problem               `json:"fault,omitempty"`
}

// shadow streams answers as the door yields them.
func (s *Server) shadow(w http.ResponseWriter, r *http.Request) error {
	q, err := decode[shadowRequest](r)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 64<<10)
	enc := json.NewEncoder(out)
	begun := false
	for a, err := range s.cfg.Door.ShadowAnswers(r.Context(), q.Change, q.Authority, q.Serials) {
		if err != nil && !begun {
			return err
		}
		if !begun {
			w.Header().Set("Content-Type", "application/x-ndjson")
			begun = true
		}
		line := shadowLine{Answer: &a}
		if err != nil {
			p := wire(err)
			line = shadowLine{Fault: &p}
			s.cfg.Log.ErrorContext(r.Context(), "a shadow broke off", slog.String("error", err.Error()))
		}
		if enc.Encode(line) != nil || err != nil {
			_ = out.Flush() // the caller is gone, or reads the fault
			return nil
		}
	}
	if enc.Encode(shadowLine{End: true}) == nil {
		_ = out.Flush() // without it the caller sees no end and refuses what it has
	}
	return nil
}

// ShadowAnswers asks what would be said of certificates with a change; nothing is signed.
func (c *Client) ShadowAnswers(ctx context.Context, change string, authority bulkhead.AuthorityID, serials []bulkhead.Serial) iter.Seq2[bulkhead.ShadowAnswer, error] {
	return func(yield func(bulkhead.ShadowAnswer, error) bool) {
		none := bulkhead.ShadowAnswer{}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		res, err := c.post(ctx, Shadow, shadowRequest{change, authority, serials})
		if err != nil {
			yield(none, err)
			return
		}
		defer res.Body.Close()
		dec := json.NewDecoder(res.Body)
		for {
			var line shadowLine
			switch err := dec.Decode(&line); {
			case errors.Is(err, io.EOF):
				yield(none, away(io.ErrUnexpectedEOF))
				return
			case err != nil:
				yield(none, away(err))
				return
			case line.Fault != nil:
				yield(none, line.Fault.fault())
				return
			case line.End:
				return
			case line.Answer == nil:
				yield(none, away(errors.New("an empty line")))
				return
			}
			if !yield(*line.Answer, nil) {
				return
			}
		}
	}
}
