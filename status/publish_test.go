package status_test

import (
	"context"

	"bulkhead"
	"bulkhead/pki/pack"
)

// headEdit is a head in the hands of whoever holds the head key and means ill.
type headEdit struct{ *pack.Head }

// publish puts out a head that the service would not have made.
func (h *house) publish(edit func(*headEdit)) {
	h.t.Helper()
	x := h.head()
	edit(&headEdit{x})
	x.Sequence++
	for i := range x.Issuers {
		x.Issuers[i].Generation++
	}
	body, err := x.Body()
	ok(h.t, err)
	signed, err := h.signer.SignHead(context.Background(), body)
	ok(h.t, err)
	ok(h.t, h.store.PutHead(context.Background(), bulkhead.HeadRecord{Sequence: x.Sequence, Body: signed, At: x.At}, nil))
	ok(h.t, h.dir.SetHead(context.Background(), signed))
}
