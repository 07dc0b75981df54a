// Package verifiers asks the programs of the world what they make of an answer and a CRL: OpenSSL, GnuTLS, and Go's own
// library.
//
// Invariant: a program says good only when it ran to its end, in time, and said so about exactly the certificate that
// was asked about, with a signature that it verified. Everything else is refused or not seen, never good.
//
// Refuses: a shell, a program that was not found by its own name, environment of ours but the search path, output beyond
// a limit, a run beyond its time (the whole process group is ended), files that others can read.
package verifiers

import (
	"fmt"
	"os/exec"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/status"
)

// Names of the verifiers that can be configured. Go's is always there.
const (
	OpenSSL = "openssl"
	GnuTLS  = "gnutls"
	None    = "none" // no foreign program looks
)

// Timeout bounds one run of one program.
const Timeout = 8 * time.Second

// programs are what a verifier runs.
var programs = map[string][]string{OpenSSL: {"openssl"}, GnuTLS: {"ocsptool", "certtool"}}

// Known are the names that can be configured.
func Known() []string { return []string{OpenSSL, GnuTLS, None} }

// Check refuses names that are not known, twice, or beside "none".
func Check(names []string) error {
	for i, n := range names {
		if !slices.Contains(Known(), n) || slices.Contains(names[:i], n) || n == None && len(names) > 1 {
			return bulkhead.Faultf(bulkhead.KindUsage, "%q is not a verifier, stands twice, or stands beside %q", n, None).WithHint("status.verifiers: [openssl, gnutls]")
		}
	}
	return nil
}

// Found are the verifiers whose programs are on the search path.
func Found() []string {
	var out []string
	for _, n := range []string{OpenSSL, GnuTLS} {
		if Missing(n) == "" {
			out = append(out, n)
		}
	}
	return out
}

// Missing names the first program of a verifier that is not on the search path; "" when all are.
func Missing(name string) string {
	for _, p := range programs[name] {
		if _, err := exec.LookPath(p); err != nil {
			return p
		}
	}
	return ""
}

// New makes the verifiers of a configuration; nil names are those found. Go's comes first. A verifier whose program is
// missing is made all the same: it sees nothing, and says so. Folders that killed processes left are removed.
func New(names []string) []status.Verifier {
	sweep()
	if names == nil {
		names = Found()
	}
	out := []status.Verifier{golang{}}
	for _, n := range names {
		switch n {
		case OpenSSL:
			out = append(out, openssl{})
		case GnuTLS:
			out = append(out, gnutls{})
		}
	}
	return out
}

// Sources of an exhibit.
var answerNames = [2]string{"OCSP (SHA-1)", "OCSP (SHA-256)"}

const crlName = "CRL"

func notSeen(source string, err error) status.Opinion {
	return status.Opinion{Source: source, Verdict: status.VerdictNotSeen, Detail: err.Error()}
}

func refused(source, format string, args ...any) status.Opinion {
	return status.Opinion{Source: source, Verdict: status.VerdictRefused, Detail: fmt.Sprintf(format, args...)}
}
