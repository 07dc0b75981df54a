package verifiers

import (
	"context"
	"fmt"
	"strings"

	"bulkhead/status"
)

// openssl asks the openssl program.
type openssl struct{}

// Name implements status.Verifier.
func (openssl) Name() string { return OpenSSL }

// Look implements status.Verifier.
func (openssl) Look(ctx context.Context, e status.Exhibit) []status.Opinion {
	return atDesk(e, func(d *desk, issuer string) []status.Opinion {
		var out []status.Opinion
		for i, hash := range [2]string{"-sha1", "-sha256"} {
			out = append(out, opensslAnswer(ctx, d, answerNames[i], hash, issuer, e.Answers[i], e))
		}
		if e.Certificate != nil && e.CRL != nil {
			out = append(out, opensslCRL(ctx, d, issuer, e))
		}
		return out
	})
}

func opensslAnswer(ctx context.Context, d *desk, source, hash, issuer string, der []byte, e status.Exhibit) status.Opinion {
	path, err := d.put("answer.der", der)
	if err != nil {
		return notSeen(source, err)
	}
	serial := "0x" + e.Ref.Serial.String()
	said, code, err := d.run(ctx, "openssl", "ocsp", "-respin", path, hash, "-issuer", issuer, "-serial", serial, "-CAfile", issuer, "-partial_chain", "-no_nonce")
	if err != nil {
		return notSeen(source, err)
	}
	return readOpenSSL(source, said, code)
}

// readOpenSSL reads "Response verify OK" and the line "0xSERIAL: good"; a warning about the dates of the answer refuses it.
func readOpenSSL(source, said string, code int) status.Opinion {
	verified, verdict := false, status.Verdict("")
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		switch {
		case line == "Response verify OK":
			verified = true
		case strings.HasPrefix(line, "WARNING: Status times invalid"):
			return refused(source, "its dates are wrong")
		case strings.HasPrefix(line, "0x") && strings.HasSuffix(line, ": good"):
			verdict = status.VerdictGood
		case strings.HasPrefix(line, "0x") && strings.HasSuffix(line, ": revoked"):
			verdict = status.VerdictRevoked
		}
	}
	if code != 0 || !verified || verdict == "" {
		return refused(source, "%s", lastLine(said))
	}
	return status.Opinion{Source: source, Verdict: verdict}
}

func opensslCRL(ctx context.Context, d *desk, issuer string, e status.Exhibit) status.Opinion {
	cert, err := d.putPEM("certificate.pem", "CERTIFICATE", e.Certificate)
	if err != nil {
		return notSeen(crlName, err)
	}
	list, err := d.put("list.crl", e.CRL)
	if err != nil {
		return notSeen(crlName, err)
	}
	said, code, err := d.run(ctx, "openssl", "verify", "-partial_chain", "-no-CApath", "-no-CAstore", "-trusted", issuer, "-crl_check", "-CRLfile", list, cert)
	if err != nil {
		return notSeen(crlName, err)
	}
	switch {
	case code == 0 && strings.HasSuffix(strings.TrimSpace(said), ": OK"):
		return status.Opinion{Source: crlName, Verdict: status.VerdictGood}
	case strings.Contains(said, "error 23 at 0 depth lookup"): // X509_V_ERR_CERT_REVOKED
		return status.Opinion{Source: crlName, Verdict: status.VerdictRevoked}
	default:
		return refused(crlName, "%s", lastLine(said))
	}
}

// lastLine is the last thing that a program said, for people; a line that gives a numbered error says more.
func lastLine(said string) string {
	for line := range strings.Lines(said) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "error ") && strings.Contains(line, " depth ") {
			return line
		}
	}
	lines := strings.Split(strings.TrimSpace(said), "\n")
	text := strings.ToValidUTF8(strings.TrimSpace(lines[len(lines)-1]), "?")
	if text == "" {
		return "it said nothing"
	}
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "")
	}
	return fmt.Sprintf("%q", text)
}
