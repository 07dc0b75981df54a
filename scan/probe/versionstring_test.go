package probe_test

import (
	"testing"

	"bulkhead/scan/probe"
)

// TestVersionStrings: what advisories say of the versions that people read off their systems.
func TestVersionStrings(t *testing.T) {
	for text, want := range map[string]probe.StringState{
		"OpenSSL 1.0.1 14 Mar 2012":                     probe.StringAffected,
		"OpenSSL 1.0.1f 6 Jan 2014":                     probe.StringAffected,
		"OpenSSL 1.0.1-beta3":                           probe.StringAffected,
		"OpenSSL 1.0.1e-fips 11 Feb 2013":               probe.StringAffected,
		"OpenSSL 1.0.1g 7 Apr 2014":                     probe.StringFixed,
		"OpenSSL 1.0.1zz":                               probe.StringFixed,
		"OpenSSL 1.0.2-beta1 24 Feb 2014":               probe.StringAffected,
		"OpenSSL 1.0.2-beta":                            probe.StringAffected,
		"OpenSSL 1.0.2-beta2":                           probe.StringFixed,
		"OpenSSL 1.0.2k-fips  26 Jan 2017":              probe.StringFixed,
		"OpenSSL 1.0.0l 6 Jan 2014":                     probe.StringNotAffected,
		"OpenSSL 0.9.8y 5 Feb 2013":                     probe.StringNotAffected,
		"OpenSSL 1.1.0l  10 Sep 2019":                   probe.StringFixed,
		"OpenSSL 1.1.1w  11 Sep 2023":                   probe.StringNotAffected,
		"OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL)": probe.StringNotAffected,
		"OpenSSL 1.0.1e 11 Feb 2013\nbuilt on: x\ncompiler: gcc -DOPENSSL_NO_HEARTBEATS -DDSO": probe.StringNotAffected,
		"LibreSSL 3.8.2": probe.StringNotAffected,
		"Apache/2.2.15 (CentOS) DAV/2 mod_ssl/2.2.15 OpenSSL/1.0.1e-fips PHP/5.3.3":            probe.StringAffected,
		"Apache/2.4.9 (Unix) OpenSSL/1.0.1g":                                                   probe.StringFixed,
		"nginx: built with OpenSSL 1.0.1f 6 Jan 2014 (running with OpenSSL 1.0.1g 7 Apr 2014)": probe.StringFixed,
		"openssl 1.0.1e-2":                                probe.StringAffected, // Debian 7 as it came out
		"openssl 1.0.1e-2+deb7u4":                         probe.StringAffected,
		"openssl 1.0.1e-2+deb7u5":                         probe.StringFixed,
		"openssl 1.0.1e-2+deb7u20":                        probe.StringFixed,
		"libssl1.0.0 1.0.1g-1":                            probe.StringFixed,
		"libssl1.0.0:amd64 1.0.1-4ubuntu5.11":             probe.StringAffected,
		"libssl1.0.0:amd64 1.0.1-4ubuntu5.12":             probe.StringFixed,
		"libssl1.0.0_1.0.1-4ubuntu5.39_amd64.deb":         probe.StringFixed,
		"libssl1.0.0 1.0.1c-3ubuntu2.6":                   probe.StringAffected,
		"libssl1.0.0 1.0.1c-3ubuntu2.7":                   probe.StringFixed,
		"libssl1.0.0 1.0.1c-4ubuntu8.2":                   probe.StringAffected,
		"libssl1.0.0 1.0.1e-3ubuntu1.1":                   probe.StringAffected,
		"libssl1.0.0 1.0.1e-3ubuntu1.2":                   probe.StringFixed,
		"libssl1.0.0 1.0.1f-1ubuntu1":                     probe.StringAffected,
		"libssl1.0.0 1.0.1f-1ubuntu2.27":                  probe.StringFixed,
		"openssl-1.0.1e-15.el6.x86_64":                    probe.StringAffected,
		"openssl-1.0.1e-16.el6_5.4.x86_64":                probe.StringAffected,
		"openssl-1.0.1e-16.el6_5.4.0.1.centos.x86_64.rpm": probe.StringFixed,
		"openssl-1.0.1e-16.el6_5.7.x86_64":                probe.StringFixed,
		"openssl-1.0.1e-16.el6_5.15":                      probe.StringFixed,
		"openssl-1.0.1e-30.el6_6.2":                       probe.StringFixed,
		"openssl-1.0.1e-34.el7_0.3.x86_64":                probe.StringFixed,
		"openssl-1.0.1e-37.fc19":                          probe.StringAffected,
		"openssl-1.0.1e-37.fc20.1.x86_64":                 probe.StringFixed,
		"openssl-1:1.0.1e-37.66.amzn1":                    probe.StringFixed,
		"openssl-1.0.1e-4.59.amzn1":                       probe.StringAffected,
		"openssl-1.0.0-27.el6":                            probe.StringNotAffected,
		"libssl1.0.0":                                     probe.StringUnclear,
		"Apache":                                          probe.StringUnclear,
		"":                                                probe.StringUnclear,
		"OpenSSL 2.7.1":                                   probe.StringUnclear,
	} {
		if got := probe.JudgeVersion(text); got.State != want || got.Reason == "" || got.State != probe.StringUnclear && got.Source == "" {
			t.Errorf("%q: %+v, want %s", text, got, want)
		}
	}
}

// FuzzVersionString: any text is judged, and the same text the same way.
func FuzzVersionString(f *testing.F) {
	for _, s := range []string{"OpenSSL 1.0.1f", "openssl-1.0.1e-16.el6_5.7.x86_64", "1.0.1e-2+deb7u5", "running with openssl", "İopenssl 1.0.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if j := probe.JudgeVersion(text); j.State == "" || j.Reason == "" || j != probe.JudgeVersion(text) {
			t.Errorf("%+v", j)
		}
	})
}
