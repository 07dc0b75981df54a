package status_test

import (
	"bytes"
	"context"
	"io"
	"iter"

	"bulkhead"
	"bulkhead/signer"
)

// door is the signer with faults planted behind it: what a signer that lies would say.
type door struct {
	*signer.Signer
	answers func(req *bulkhead.AnswerRequest, call func() (bulkhead.AnswerBatch, error)) (bulkhead.AnswerBatch, error)
	crl     func(req *bulkhead.CRLRequest, call func(io.Writer) (bulkhead.CRLRecord, error), w io.Writer) (bulkhead.CRLRecord, error)
	head    func(body []byte) []byte
	shadow  func(change string, a *bulkhead.ShadowAnswer) // what the answer function would say
}

func (d *door) SignAnswers(ctx context.Context, req bulkhead.AnswerRequest) (bulkhead.AnswerBatch, error) {
	if d.answers == nil {
		return d.Signer.SignAnswers(ctx, req)
	}
	return d.answers(&req, func() (bulkhead.AnswerBatch, error) { return d.Signer.SignAnswers(ctx, req) })
}

func (d *door) SignCRL(ctx context.Context, req bulkhead.CRLRequest, w io.Writer) (bulkhead.CRLRecord, error) {
	if d.crl == nil {
		return d.Signer.SignCRL(ctx, req, w)
	}
	return d.crl(&req, func(w io.Writer) (bulkhead.CRLRecord, error) { return d.Signer.SignCRL(ctx, req, w) }, w)
}

func (d *door) SignHead(ctx context.Context, body []byte) ([]byte, error) {
	if d.head != nil {
		body = d.head(bytes.Clone(body))
	}
	return d.Signer.SignHead(ctx, body)
}

func (d *door) ShadowAnswers(ctx context.Context, change string, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) iter.Seq2[bulkhead.ShadowAnswer, error] {
	all := d.Signer.ShadowAnswers(ctx, change, issuer, serials)
	if d.shadow == nil {
		return all
	}
	return func(yield func(bulkhead.ShadowAnswer, error) bool) {
		for a, err := range all {
			if err == nil {
				d.shadow(change, &a)
			}
			if !yield(a, err) {
				return
			}
		}
	}
}
