package status_test

import (
	"bytes"
	"context"
	"io"

	"bulkhead"
	"bulkhead/signer"
)

// door is the signer with faults planted behind it: what a signer that lies would say.
type door struct {
	*signer.Signer
	answers func(req *bulkhead.AnswerRequest, call func() (bulkhead.AnswerBatch, error)) (bulkhead.AnswerBatch, error)
	crl     func(req *bulkhead.CRLRequest, call func(io.Writer) (bulkhead.CRLRecord, error), w io.Writer) (bulkhead.CRLRecord, error)
	head    func(body []byte) []byte
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
