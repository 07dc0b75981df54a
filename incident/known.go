package incident

import (
	"context"

	"bulkhead"
)

// seenReplaced are what a campaign that has begun has seen of its certificates: those that were reissued, and by what. A
// later plan revokes them first, and counts an own estate that is done as done.
func (s *Service) seenReplaced(ctx context.Context, campaign string) (map[bulkhead.CertificateRef]bulkhead.CertificateRef, error) {
	out := map[bulkhead.CertificateRef]bulkhead.CertificateRef{}
	if campaign == "" {
		return out, nil
	}
	var first int64
	for {
		rows, err := s.cfg.Store.CampaignItems(ctx, campaign, bulkhead.CampaignItemFilter{States: []bulkhead.ItemState{bulkhead.ItemReissued, bulkhead.ItemInstalled}, First: first, Limit: page})
		if err != nil {
			return nil, err
		}
		for _, it := range rows {
			first = it.Ordinal + 1
			out[it.CertificateRef] = it.Replacement
		}
		if len(rows) < page {
			return out, nil
		}
	}
}
