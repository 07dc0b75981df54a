package verifiers

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/status"
)

// gnutls asks the ocsptool and certtool programs.
type gnutls struct{}

// Name implements status.Verifier.
func (gnutls) Name() string { return GnuTLS }

// Look implements status.Verifier.
func (gnutls) Look(ctx context.Context, e status.Exhibit) []status.Opinion {
	return atDesk(e, func(d *desk, issuer string) []status.Opinion {
		var out []status.Opinion
		for i := range e.Answers {
			out = append(out, gnutlsAnswer(ctx, d, answerNames[i], issuer, e.Answers[i], e))
		}
		if e.Certificate != nil && e.CRL != nil {
			out = append(out, gnutlsCRL(ctx, d, issuer, e))
		}
		return out
	})
}

func gnutlsAnswer(ctx context.Context, d *desk, source, issuer string, der []byte, e status.Exhibit) status.Opinion {
	path, err := d.put("answer.der", der)
	if err != nil {
		return notSeen(source, err)
	}
	said, code, err := d.run(ctx, "ocsptool", "--verify-response", "--load-response", path, "--load-trust", issuer)
	if err != nil {
		return notSeen(source, err)
	}
	return readGnuTLS(source, said, code, e.Ref.Serial, e.At)
}

// gnutlsTime is how ocsptool prints a time.
const gnutlsTime = "Mon Jan 02 15:04:05 MST 2006"

// readGnuTLS reads the one serial, the one status and the verdict on the signature. ocsptool prints what the response
// says and then judges its signature; a response about more than one certificate is not one of ours.
func readGnuTLS(source, said string, code int, serial bulkhead.Serial, now time.Time) status.Opinion {
	var serials, states []string
	var this, next time.Time
	verified := false
	for line := range strings.Lines(said) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch {
		case !ok:
		case key == "Serial Number":
			serials = append(serials, value)
		case key == "Certificate Status":
			states = append(states, value)
		case key == "This Update":
			this, _ = time.Parse(gnutlsTime, value) // the zero time is refused below
		case key == "Next Update":
			next, _ = time.Parse(gnutlsTime, value)
		case key == "Verifying OCSP Response":
			verified = value == "Success."
		}
	}
	if code != 0 || !verified {
		return refused(source, "%s", lastLine(said))
	}
	if len(serials) != 1 || len(states) != 1 {
		return refused(source, "it answers for %d certificates", len(serials))
	}
	if got, err := bulkhead.ParseSerial(serials[0]); err != nil || got != serial {
		return refused(source, "it answers for serial %.60q", serials[0])
	}
	if this.IsZero() || now.Before(this) || !now.Before(next) { // ocsptool prints the dates and leaves them to its user
		return refused(source, "its dates are wrong")
	}
	switch states[0] {
	case "good":
		return status.Opinion{Source: source, Verdict: status.VerdictGood}
	case "revoked":
		return status.Opinion{Source: source, Verdict: status.VerdictRevoked}
	default:
		return refused(source, "it says %.60q", states[0])
	}
}

func gnutlsCRL(ctx context.Context, d *desk, issuer string, e status.Exhibit) status.Opinion {
	cert, err := d.putPEM("certificate.pem", "CERTIFICATE", e.Certificate)
	if err != nil {
		return notSeen(crlName, err)
	}
	list, err := d.putPEM("list.pem", "X509 CRL", e.CRL)
	if err != nil {
		return notSeen(crlName, err)
	}
	// Two runs: --verify holds the certificate against the list and does not verify the list.
	_, code, err := d.run(ctx, "certtool", "--verify-crl", "--no-text", "--load-ca-certificate", issuer, "--infile", list, "--outfile", filepath.Join(d.dir, "verified.txt"))
	if err != nil {
		return notSeen(crlName, err)
	}
	end, err := tail(filepath.Join(d.dir, "verified.txt"))
	if code != 0 || err != nil || !strings.HasSuffix(strings.TrimSpace(end), "Verification output: Verified. The certificate is trusted.") {
		return refused(crlName, "the list does not verify: %s", lastLine(end))
	}
	said, code, err := d.run(ctx, "certtool", "--verify", "--load-ca-certificate", issuer, "--load-crl", list, "--infile", cert)
	if err != nil {
		return notSeen(crlName, err)
	}
	return readCerttool(said, code)
}

// readCerttool reads the chain's verdict, which counts only when a CRL was held against the certificate.
func readCerttool(said string, code int) status.Opinion {
	final := ""
	for line := range strings.Lines(said) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "Chain verification output:"); ok {
			final = strings.TrimSpace(v)
		}
	}
	switch {
	case !strings.Contains(said, "Checked against CRL["):
		return refused(crlName, "no CRL was held against the certificate: %s", lastLine(said))
	case code == 0 && final == "Verified. The certificate is trusted.":
		return status.Opinion{Source: crlName, Verdict: status.VerdictGood}
	case strings.Contains(final, "The certificate chain is revoked."):
		return status.Opinion{Source: crlName, Verdict: status.VerdictRevoked}
	default:
		return refused(crlName, "%s", lastLine(said))
	}
}
