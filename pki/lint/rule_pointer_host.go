package lint

import (
	"net/netip"
	"net/url"
	"slices"

	"github.com/zmap/zlint/v3/util"
)

// pointerHost: without Config.PrivateNames, pointers lead to hosts that the whole world can reach. The same question as
// zlint's w_sub_cert_aia_contains_internal_names, with the date as a parameter.
func pointerHost() rule {
	return rule{
		name: "bulkhead_pointer_host", source: "BR 7.1.2.10.3, 7.1.2.11.2", severity: Warn, sets: append(append(slices.Clone(subCASets), serverSets...), SetSMIME, SetCodeSigning),
		check: func(s *subject, report report) {
			if s.privateNames {
				return
			}
			for _, p := range slices.Concat(s.cert.CRLDistributionPoints, s.cert.OCSPServer, s.cert.IssuingCertificateURL) {
				u, err := url.Parse(p)
				if err != nil {
					continue // bulkhead_pointers reports it
				}
				if a, err := netip.ParseAddr(u.Hostname()); err == nil {
					if !a.IsGlobalUnicast() || a.IsPrivate() {
						report("%q is on a private address", p)
					}
				} else if !util.HasValidTLD(u.Hostname(), s.at) {
					report("%q is on an internal name", p)
				}
			}
		},
	}
}
