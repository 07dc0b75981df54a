package console

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"bulkhead"
)

// Sightings judge certificates that were found elsewhere: in CT logs, in captures of the wire, in reports.
type Sightings interface {
	// Sight judges each and raises an alarm for one that our keys signed and the record does not know (D2), and for one from
	// after a block with a blocked key (D12).
	Sight(ctx context.Context, source string, ders [][]byte) ([]SightedCertificate, error)
}

func (a *API) sightingRoutes() {
	route(a, "POST /api/v1/sightings", operation[SightingsRequest, SightingsResponse]{id: "sightCertificates", do: a.sight, plan: a.planSight,
		summary: "judge certificates found in CT logs or elsewhere: one that our keys signed and the record does not know is an alarm (D2), a blocked key that came back is one (D12)"})
}

// SightingsRequest brings certificates and says where they were found.
type SightingsRequest struct {
	Source       string   `json:"source"`       // like "ct: crt.sh 2026-11-26"
	Certificates []string `json:"certificates"` // PEM or base64 DER, precertificates included; 200 at most
}

// SightedCertificate is the judgement of one.
type SightedCertificate struct {
	SHA256  bulkhead.Hash          `json:"sha256"`
	Issuer  bulkhead.AuthorityID   `json:"issuer,omitempty"`
	Serial  bulkhead.Serial        `json:"serial,omitempty"`
	Verdict bulkhead.SightedReason `json:"verdict"`
	Detail  string                 `json:"detail"`
	Blocked bool                   `json:"blocked_key"` // it has a key that was blocked before it was made
}

// SightingsResponse is in the order of the request.
type SightingsResponse struct {
	Certificates []SightedCertificate `json:"certificates"`
}

const mostSightings = 200

func (in SightingsRequest) ders() ([][]byte, error) {
	if strings.TrimSpace(in.Source) == "" || len(in.Source) > 200 {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "source does not say where they were found, in 200 characters")
	}
	if len(in.Certificates) == 0 || len(in.Certificates) > mostSightings {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "a request brings 1 to %d certificates, not %d", mostSightings, len(in.Certificates))
	}
	var out [][]byte
	for i, text := range in.Certificates {
		der, err := decodeDER(text, "CERTIFICATE", "TRUSTED CERTIFICATE")
		if err != nil {
			return nil, bulkhead.Faultf(bulkhead.KindMalformed, "certificate %d: %s", i+1, err)
		}
		out = append(out, der)
	}
	return out, nil
}

func (a *API) sight(ctx context.Context, _ who, _ *http.Request, in SightingsRequest) (SightingsResponse, error) {
	ders, err := in.ders()
	if err != nil {
		return SightingsResponse{}, err
	}
	got, err := a.cfg.Sightings.Sight(ctx, in.Source, ders)
	return SightingsResponse{got}, err
}

func (a *API) planSight(_ context.Context, _ who, _ *http.Request, in SightingsRequest) (Plan, error) {
	ders, err := in.ders()
	if err != nil {
		return Plan{}, err
	}
	return planOf(fmt.Sprintf("judge %d certificates, and raise an alarm for each that our keys signed without the record", len(ders))), nil
}
