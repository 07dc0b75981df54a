package dcv

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"bulkhead"
)

// dns01 looks for the digest of the key authorization in the TXT records of _acme-challenge (RFC 8555 section 8.4).
func (v *Validator) dns01(ctx context.Context, id bulkhead.Identifier, keyAuthorization string) (string, error) {
	name := "_acme-challenge." + id.Value
	records, chain, err := v.dns.lookup(ctx, name, dns.TypeTXT)
	if err != nil {
		return "", err
	}
	via := ""
	if len(chain) > 0 {
		via = " (by CNAME " + strings.Join(chain, ", ") + ")"
	}
	digest := sha256.Sum256([]byte(keyAuthorization))
	want := base64.RawURLEncoding.EncodeToString(digest[:])
	var seen []string
	for _, rr := range records {
		txt, ok := rr.(*dns.TXT)
		if !ok {
			continue
		}
		text := strings.Join(txt.Txt, "")
		if text == want {
			return fmt.Sprintf("TXT %s%s holds the digest", name, via), nil
		}
		seen = append(seen, text)
	}
	if len(seen) == 0 {
		return "", bulkhead.Faultf(bulkhead.KindUnauthorized, "there is no TXT record at %s%s", name, via)
	}
	return "", bulkhead.Faultf(bulkhead.KindUnauthorized, "TXT %s%s holds %.80q among %d, not the digest expected", name, via, seen[0], len(seen))
}
