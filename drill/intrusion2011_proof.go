package drill

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// triage: the web server of the sales site was broken into; its key is exposed.
func (d *day2011) triage() error {
	if err := d.pass(2 * day24); err != nil {
		return err
	}
	cert, err := x509.ParseCertificate(d.webCert.DER)
	if err != nil {
		return fmt.Errorf("certificate of the web server: %w", err)
	}
	status := d.house.roles.Status
	key := bulkhead.Digest(cert.RawSubjectPublicKeyInfo)
	if _, err := status.Compromise(d.ctx, bulkhead.Compromise{KeyHash: key, Actor: "operator:operator-1", Reason: "traces of an intrusion at www.house.test"}); err != nil {
		return err
	}
	if err := status.PursueCompromises(d.ctx); err != nil {
		return err
	}
	if err := d.house.look(); err != nil {
		return err
	}
	is, err := d.house.status(d.webCert.Certificate.CertificateRef)
	if err != nil {
		return err
	}
	blocked, err := d.house.roles.Store.BlockedKeys(d.ctx, key)
	if err != nil {
		return err
	}
	reach, err := d.reach(key)
	if err != nil {
		return err
	}
	csr, err := requestWith(d.webKey, "www.house.test")
	if err != nil {
		return err
	}
	_, refusal := d.house.reh.Order(d.ctx, d.own, "", "sales", csr, bulkhead.CertificateRef{})
	d.say("Traces of an intrusion at the web server, whose certificate's key is exposed: what holds that key is looked up; one command revokes it, and the key is refused from then on", reach...)
	d.check("S0-14", is.State == ocsp.Revoked && len(blocked) == 1 && bulkhead.KindOf(refusal) == bulkhead.KindBadPublicKey, "its certificate is revoked, its key blocked, and a request with it refused", "%s; blocked %d; %v", is.State, len(blocked), refusal)
	return nil
}

// reach says what an exposed key could do: which certificates hold it, and whether it is one of the house's own keys.
func (d *day2011) reach(key bulkhead.Hash) ([]string, error) {
	store := d.house.roles.Store
	certs, err := store.CertificatesByKey(d.ctx, key, d.clock.now())
	if err != nil {
		return nil, err
	}
	var lines []string
	for _, c := range certs {
		lines = append(lines, fmt.Sprintf("the key is in certificate %s (%s), now %s", c.CertificateRef, strings.Join(nameTexts(c.Names), ", "), c.State))
	}
	all, err := store.Authorities(d.ctx)
	if err != nil {
		return nil, err
	}
	n, held := 0, false
	for _, a := range all {
		delegates, err := store.Delegates(d.ctx, a.ID)
		if err != nil {
			return nil, err
		}
		n += 1 + len(delegates)
		for _, x := range delegates {
			if cert, err := x509.ParseCertificate(x.Certificate); err == nil && bulkhead.Digest(cert.RawSubjectPublicKeyInfo) == key {
				lines, held = append(lines, "IT ANSWERS FOR "+string(a.ID)), true
			}
		}
		if bulkhead.Digest(a.SPKI) == key {
			lines, held = append(lines, "IT IS THE KEY OF "+string(a.ID)), true
		}
	}
	if held {
		return lines, nil
	}
	return append(lines, fmt.Sprintf("of %d authorities and responders it is none: it can sign no certificate and no answer", n)), nil
}

func nameTexts(names []bulkhead.Identifier) (out []string) {
	for _, n := range names {
		out = append(out, n.Value)
	}
	return out
}

// prove: six times what was examined and what was found; and it would have seen the certificate of an intruder.
func (d *day2011) prove() error {
	clean, err := d.house.reh.Prove(d.ctx, "")
	if err != nil {
		return err
	}
	var lines []string
	six := len(clean.Negatives) == 6
	for i, n := range clean.Negatives {
		lines = append(lines, fmt.Sprintf("%d. %s %s", i+1, n.Question, n.Answer), "   examined: "+n.Examined)
		six = six && n.Findings == 0 && n.Examined != "" && len(n.NotCovered) > 0
	}
	own, err := newKey()
	if err != nil {
		return err
	}
	rogue, err := d.house.reh.Rogue(d.ctx, d.webCert.Certificate.Issuer, "www.google.com", own.Public())
	if err != nil {
		return err
	}
	dir := filepath.Join(d.dir, "from-outside")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("certificates from outside: %w", err)
	}
	for name, der := range map[string][]byte{"www.house.test.pem": d.webCert.DER, "www.google.com.pem": rogue} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
			return fmt.Errorf("certificates from outside: %w", err)
		}
	}
	planted, err := d.house.reh.Prove(d.ctx, dir)
	if err != nil {
		return err
	}
	var found []string
	exactly := !planted.OK && len(planted.Findings) == 1
	for _, f := range planted.Findings {
		found = append(found, f.Rule+": "+f.Message)
		exactly = exactly && f.SHA256 == bulkhead.Digest(rogue) && f.Issuer == d.webCert.Certificate.Issuer
	}
	d.say("Six times not found, each with what was examined (on the day: three months later)", append(lines, "and the certificate that an intruder would have signed with the key: "+strings.Join(found, "; "))...)
	d.check("S0-5", clean.OK && six && len(clean.Findings) == 0, "signatures, log, record and what is public are reconciled, and six times nothing is found", "%d rows of evidence, a checkpoint of %d leaves, %d findings", clean.Rows, clean.Checkpoint.Size, len(clean.Findings))
	d.check("S0-5", exactly && !bytes.Equal(rogue, d.webCert.DER), "the proof is not blind: a certificate signed past the signer is reported as exactly that one", "%s", strings.Join(found, "; "))
	return nil
}
