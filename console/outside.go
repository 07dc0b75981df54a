package console

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"

	"bulkhead"
)

// Alarms takes alarms in the name of people.
type Alarms interface {
	// Plan checks an acknowledgement and changes nothing.
	Plan(ctx context.Context, id int64, reason string) (bulkhead.Alarm, error)
	Acknowledge(ctx context.Context, actor string, id int64, reason string) (bulkhead.Alarm, error)
}

// Explainer says where an answer comes from.
type Explainer interface {
	// Explain reads a DER OCSP response, the certificate it is about (DER, nil when that is not at hand) and the HTTP headers
	// of the reply ("" for none). KindMalformed when they cannot be read.
	Explain(ctx context.Context, der, certificate []byte, headers string) (bulkhead.OCSPExplanation, error)
}

func (a *API) outsideRoutes() {
	route(a, "POST /api/v1/alarms/{id}/acknowledgement", operation[AcknowledgeRequest, AlarmView]{id: "acknowledgeAlarm", do: a.acknowledge, plan: a.planAcknowledge,
		summary: "take an alarm: it is not delivered any more, and quiet while the same trouble goes on"})
	route(a, "POST /api/v1/explain/ocsp", operation[ExplainRequest, bulkhead.OCSPExplanation]{id: "explainOCSP", do: a.explain, plan: a.planExplain,
		summary: "say which record, change, signer, epoch and cache made an OCSP answer; changes nothing"})
}

// AcknowledgeRequest says why.
type AcknowledgeRequest struct {
	Reason string `json:"reason"`
}

func alarmView(x bulkhead.Alarm) AlarmView {
	v := AlarmView{ID: x.ID, Detector: x.Detector, Key: x.Key, Severity: x.Severity, Message: x.Message, Runbook: x.Runbook, FirstAt: x.FirstAt.UTC(), LastAt: x.LastAt.UTC(), Count: x.Count,
		AckedBy: x.AckedBy, AckReason: x.AckReason}
	if !x.Open() {
		at := x.AckedAt.UTC()
		v.AckedAt = &at
	}
	return v
}

func alarmID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, bulkhead.Faultf(bulkhead.KindNotFound, "%q is no number of an alarm", r.PathValue("id")).WithHint("bulkhead alarms")
	}
	return id, nil
}

func (a *API) acknowledge(ctx context.Context, w who, r *http.Request, in AcknowledgeRequest) (AlarmView, error) {
	id, err := alarmID(r)
	if err != nil {
		return AlarmView{}, err
	}
	x, err := a.cfg.Alarms.Acknowledge(ctx, w.actor(), id, in.Reason)
	return alarmView(x), err
}

func (a *API) planAcknowledge(ctx context.Context, _ who, r *http.Request, in AcknowledgeRequest) (Plan, error) {
	id, err := alarmID(r)
	if err != nil {
		return Plan{}, err
	}
	x, err := a.cfg.Alarms.Plan(ctx, id, in.Reason)
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("acknowledge alarm %d of %s: %s", x.ID, x.Detector, x.Message), "deliver it to nobody any more"), nil
}

// ExplainRequest is an answer as it was received.
type ExplainRequest struct {
	Response    string `json:"response"`              // DER OCSPResponse in base64
	Certificate string `json:"certificate,omitempty"` // PEM or base64 DER
	Headers     string `json:"headers,omitempty"`     // HTTP headers of the reply, one a line
}

func (in ExplainRequest) read() (der, certificate []byte, err error) {
	if der, err = base64.StdEncoding.DecodeString(in.Response); err != nil || len(der) == 0 {
		return nil, nil, bulkhead.NewFault(bulkhead.KindMalformed, "response is not base64").WithHint("bulkhead explain ocsp --der FILE")
	}
	if in.Certificate != "" {
		if certificate, err = decodeDER(in.Certificate, "CERTIFICATE"); err != nil {
			return nil, nil, bulkhead.Faultf(bulkhead.KindMalformed, "certificate: %s", err).WithHint("PEM, or base64 of DER")
		}
	}
	return der, certificate, nil
}

func (a *API) explain(ctx context.Context, _ who, _ *http.Request, in ExplainRequest) (bulkhead.OCSPExplanation, error) {
	der, certificate, err := in.read()
	if err != nil {
		return bulkhead.OCSPExplanation{}, err
	}
	return a.cfg.Explainer.Explain(ctx, der, certificate, in.Headers)
}

func (a *API) planExplain(_ context.Context, _ who, _ *http.Request, in ExplainRequest) (Plan, error) {
	if _, _, err := in.read(); err != nil {
		return Plan{}, err
	}
	return planOf("explain the answer; the call itself changes nothing either"), nil
}
