package lint

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
)

// issuingDistributionPoint is RFC 5280 section 5.2.5. Booleans default to false.
type issuingDistributionPoint struct {
	Point           distributionPointName `asn1:"optional,tag:0"`
	OnlyUser        bool                  `asn1:"optional,tag:1"`
	OnlyCA          bool                  `asn1:"optional,tag:2"`
	OnlySomeReasons asn1.BitString        `asn1:"optional,tag:3"`
	Indirect        bool                  `asn1:"optional,tag:4"`
	OnlyAttribute   bool                  `asn1:"optional,tag:5"`
}

type distributionPointName struct {
	FullName []asn1.RawValue `asn1:"optional,tag:0"`
}

// crlScope: a shard says which shard it is, critically and with the very bytes of the certificates' pointers, so that
// one shard cannot be passed off as another. Never indirect, never for some reasons only, never a delta.
func crlScope() rule {
	return rule{
		name: "bulkhead_crl_scope", source: "BR 7.2.2.1, MRSP 6.1.2, RFC 5280 5.2.5", severity: Error, sets: crlSets,
		check: func(s *subject, report report) {
			for _, e := range s.crl.Extensions {
				if e.Id.Equal(oidDeltaCRL) {
					report("a delta CRL")
				}
			}
			i := slices.IndexFunc(s.crl.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(oidIssuingDistributionPoint) })
			if i < 0 {
				if s.want.CRLURL != "" {
					report("no issuingDistributionPoint, expected %q", s.want.CRLURL)
				}
				return
			}
			e := s.crl.Extensions[i]
			if !e.Critical {
				report("issuingDistributionPoint is not critical")
			}
			var idp issuingDistributionPoint
			if rest, err := asn1.Unmarshal(e.Value, &idp); err != nil || len(rest) > 0 {
				report("issuingDistributionPoint is not readable")
				return
			}
			checkPoint(s, idp, report)
		},
	}
}

func checkPoint(s *subject, idp issuingDistributionPoint, report report) {
	const uri = 6 // [6] uniformResourceIdentifier of GeneralName
	var urls []string
	for _, n := range idp.Point.FullName {
		if n.Class == asn1.ClassContextSpecific && n.Tag == uri {
			urls = append(urls, string(n.Bytes))
		}
	}
	if len(urls) == 0 || len(urls) != len(idp.Point.FullName) {
		report("issuingDistributionPoint has no full name, or one that is no URL")
	}
	if w := s.want.CRLURL; w != "" && (len(urls) != 1 || urls[0] != w) {
		report("issuingDistributionPoint is %q, expected %q", urls, w)
	}
	switch {
	case idp.Indirect:
		report("an indirect CRL")
	case idp.OnlySomeReasons.BitLength > 0:
		report("a CRL for some reasons only")
	case idp.OnlyAttribute:
		report("a CRL for attribute certificates")
	case idp.OnlyUser && idp.OnlyCA:
		report("a CRL that covers only users and only authorities covers nobody")
	case idp.OnlyUser && s.set == SetRootCRL, idp.OnlyCA && s.set == SetCRL:
		report("issuingDistributionPoint excludes the certificates that this CRL is for")
	}
}
