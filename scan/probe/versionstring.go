package probe

import (
	"regexp"
	"strings"
)

// StringState is what a version string alone says. It is no verdict about a server: a string names a build, not what
// listens, and a process that was not restarted still runs the old library.
type StringState string

// States of strings.
const (
	StringAffected    StringState = "affected"
	StringFixed       StringState = "fixed"
	StringNotAffected StringState = "not_affected" // the fault was never in it
	StringUnclear     StringState = "unclear"
)

// StringJudgement is a state with its reason and the source of that.
type StringJudgement struct {
	State   StringState `json:"state"`
	Version string      `json:"version,omitempty"` // that was found in the string
	Reason  string      `json:"reason"`
	Source  string      `json:"source,omitempty"`
}

// advisory is the source for upstream versions.
const advisory = "OpenSSL Security Advisory of 7 April 2014 (secadv_20140407)"

// backport is a distribution's package of an affected version. release is part of the package revision, fixed the first
// revision with the fix, empty when there never was one.
type backport struct {
	upstream, release, fixed string
	name, source             string
}

// backports are looked at in order.
var backports = []backport{
	{"1.0.1e", "deb7u", "2+deb7u5", "Debian 7", "DSA-2896-1"},
	{"1.0.1", "-4ubuntu5", "4ubuntu5.12", "Ubuntu 12.04", "USN-2165-1"},
	{"1.0.1c", "-3ubuntu2", "3ubuntu2.7", "Ubuntu 12.10", "USN-2165-1"},
	{"1.0.1c", "-4ubuntu8", "", "Ubuntu 13.04", "out of support since January 2014, not in USN-2165-1"},
	{"1.0.1e", "-3ubuntu1", "3ubuntu1.2", "Ubuntu 13.10", "USN-2165-1"},
	{"1.0.1f", "-1ubuntu", "1ubuntu2", "Ubuntu 14.04", "fixed before its release of 17 April 2014"},
	{"1.0.1e", ".el6_5.4.0.1.centos", "16.el6_5.4.0.1.centos", "CentOS 6.5, without heartbeat", "the interim package of 8 April 2014"},
	{"1.0.1e", ".el6", "16.el6_5.7", "Red Hat Enterprise Linux 6", "RHSA-2014:0376"},
	{"1.0.1e", ".el7", "34.el7", "Red Hat Enterprise Linux 7", "released in June 2014 with 1.0.1e-34.el7"},
	{"1.0.1e", ".fc19", "37.fc19.1", "Fedora 19", "FEDORA-2014-4910"},
	{"1.0.1e", ".fc20", "37.fc20.1", "Fedora 20", "FEDORA-2014-4879"},
	{"1.0.1e", ".amzn1", "37.66.amzn1", "Amazon Linux", "ALAS-2014-320"},
}

// versionText finds versions that stand for themselves: libssl1.0.0 is a name.
var versionText = regexp.MustCompile(`(?:^|[^0-9A-Za-z.])([0-9]+\.[0-9]+\.[0-9]+)([a-z]{0,2})(-(?:beta|dev|pre|alpha)[0-9]*)?(-[0-9][0-9A-Za-z.+~_]*)?`)

// JudgeVersion reads what people have at hand: the output of "openssl version" or "openssl version -a", a server banner, or
// the version of a package with that of its distribution.
func JudgeVersion(text string) StringJudgement {
	text = text[:min(len(text), 4096)]
	if strings.Contains(text, "OPENSSL_NO_HEARTBEATS") {
		return StringJudgement{State: StringNotAffected, Reason: "built with OPENSSL_NO_HEARTBEATS", Source: advisory}
	}
	for _, other := range []string{"LibreSSL", "BoringSSL", "GnuTLS", "NSS/", "mbed TLS", "wolfSSL"} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(other)) {
			return StringJudgement{State: StringNotAffected, Reason: strings.Trim(other, "/") + " is not OpenSSL 1.0.1; the fault was there alone", Source: advisory}
		}
	}
	m := find(text)
	if m == nil {
		return StringJudgement{State: StringUnclear, Reason: "there is no OpenSSL version in it"}
	}
	upstream, before, revision := m[1]+m[2], m[3], m[4]
	j := judgeUpstream(m[1], m[2], before)
	j.Version = upstream + before + revision
	if j.State != StringAffected || revision == "" {
		return j
	}
	return judgePackage(j, upstream, revision)
}

// find prefers what a program runs with, then what follows the name.
func find(text string) []string {
	low := strings.ToLower(text)
	for _, word := range []string{"running with openssl", "openssl", ""} {
		if at := strings.Index(low, word); at >= 0 && at+len(word) <= len(text) {
			if m := versionText.FindStringSubmatch(text[at+len(word):]); m != nil {
				return m
			}
		}
	}
	return nil
}

func judgeUpstream(number, letter, before string) StringJudgement {
	j := StringJudgement{State: StringUnclear, Source: advisory}
	switch {
	case number == "1.0.1" && letter <= "f":
		j.State, j.Reason = StringAffected, "OpenSSL 1.0.1 to 1.0.1f answer heartbeats with memory; a distribution may have fixed it under the same version: look at the version of the package"
	case number == "1.0.1":
		j.State, j.Reason = StringFixed, "fixed since OpenSSL 1.0.1g"
	case number == "1.0.2" && (before == "-beta" || before == "-beta1" || before == "-dev"):
		j.State, j.Reason = StringAffected, "OpenSSL 1.0.2-beta and 1.0.2-beta1 answer heartbeats with memory"
	case number == "1.0.2":
		j.State, j.Reason = StringFixed, "fixed since OpenSSL 1.0.2-beta2"
	case strings.HasPrefix(number, "0.9.") || number == "1.0.0":
		j.State, j.Reason = StringNotAffected, "OpenSSL 0.9.x and 1.0.0 have no heartbeat"
	case number == "1.1.0":
		j.State, j.Reason = StringFixed, "OpenSSL 1.1.0 came after the fix"
	case number == "1.1.1" || number[0] >= '3' && number[0] <= '9':
		j.State, j.Reason, j.Source = StringNotAffected, "OpenSSL 1.1.1 and later have no heartbeat over TLS", "CHANGES of OpenSSL 1.1.1"
	default:
		j.Reason, j.Source = number+" is no version of OpenSSL that is known here", ""
	}
	return j
}

// judgePackage looks whether a distribution fixed an affected version.
func judgePackage(j StringJudgement, upstream, revision string) StringJudgement {
	for _, arch := range []string{"_amd64", "_i386", ".x86_64", ".i686", ".i386", ".noarch", ".src", ".rpm"} {
		if at := strings.Index(revision, arch); at > 0 {
			revision = revision[:at]
		}
	}
	for _, b := range backports {
		if b.upstream != upstream || !strings.Contains(revision, b.release) {
			continue
		}
		j.Source = b.source
		switch {
		case b.fixed == "":
			j.Reason = b.name + " never fixed it"
		case compareVersions(revision[1:], b.fixed) < 0:
			j.Reason = b.name + " fixed it in " + upstream + "-" + b.fixed
		default:
			j.State, j.Reason = StringFixed, b.name+" has the fix since "+upstream+"-"+b.fixed
		}
		return j
	}
	return j
}

// compareVersions orders revisions as dpkg and rpm do where they agree: runs of digits as numbers, the rest as text, a
// tilde before everything.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a = run(a, false)
		y, b = run(b, false)
		if c := compareText(x, y); c != 0 {
			return c
		}
		x, a = run(a, true)
		y, b = run(b, true)
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if len(x) != len(y) {
			return len(x) - len(y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return 0
}

// run cuts the leading digits, or non-digits, off text.
func run(text string, digits bool) (head, tail string) {
	i := 0
	for i < len(text) && (text[i] >= '0' && text[i] <= '9') == digits {
		i++
	}
	return text[:i], text[i:]
}

func compareText(a, b string) int {
	for i := 0; i < len(a) || i < len(b); i++ {
		if c := weight(a, i) - weight(b, i); c != 0 {
			return c
		}
	}
	return 0
}

// weight orders tilde before the end, the end before letters, letters before the rest.
func weight(text string, i int) int {
	switch {
	case i >= len(text):
		return 0
	case text[i] == '~':
		return -1
	case text[i] >= 'A' && text[i] <= 'Z', text[i] >= 'a' && text[i] <= 'z':
		return int(text[i])
	}
	return int(text[i]) + 256
}
