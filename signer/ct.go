package signer

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"bulkhead"
	"bulkhead/pki/sct"
)

// ctTimeout bounds the whole of a submission, retries included.
const ctTimeout = 30 * time.Second

// plan is what becomes of a precertificate.
type plan struct {
	template x509.Certificate // without poison and timestamps
	draft    *draft
}

// canBeLogged refuses before anything is signed what could never get its timestamps.
func (s *Signer) canBeLogged(n int, validity time.Duration) error {
	hint := "configure logs of two operators, one of them not tiled, for these dates: ct.logs in the configuration"
	if s.cfg.Transparency == nil {
		return bulkhead.NewFault(bulkhead.KindGate, "the profile wants timestamps and no logs are configured").WithHint(hint)
	}
	end := s.now().Add(validity)
	var fit []sct.Log
	for _, l := range s.cfg.Logs {
		if l.Takes(end) {
			fit = append(fit, l)
		}
	}
	if len(fit) < n || !diverse(fit) {
		return bulkhead.Faultf(bulkhead.KindGate, "%d logs take certificates that end at %s, which is not enough for %d timestamps of two operators", len(fit), end.Format(time.DateOnly), n).WithHint(hint)
	}
	return nil
}

// diverse: two operators at least, and one log that is not tiled (root programs of browsers).
func diverse(logs []sct.Log) bool {
	operators, plain := map[string]bool{}, false
	for _, l := range logs {
		operators[l.Operator] = true
		plain = plain || !l.Tiled
	}
	return len(operators) >= 2 && plain
}

// transparent signs the precertificate, which then is issued for everybody who asks for its status; gets and verifies
// timestamps; and signs the certificate, which differs from it in the list alone. When the logs fail, the precertificate
// stays what it is: signed, answered for, revocable, and handed to nobody (doc/decisions/0007-ct.md).
//
// A retry for the same order submits the same precertificate, when it is still good.
func (s *Signer) transparent(ctx context.Context, p *prepared) (bulkhead.IssuedCertificate, error) {
	none, token := bulkhead.IssuedCertificate{}, p.Token
	if p.pre == nil {
		signed, err := s.Sign(ctx, token)
		if err != nil {
			return none, err
		}
		p.pre = &signed
	}
	pre := *p.pre
	leave, err := s.enter()
	if err != nil {
		return none, err
	}
	defer leave()
	list, err := s.timestamps(ctx, token.t, pre)
	if err != nil {
		s.leftBehind(ctx, pre.Certificate, err)
		return none, err
	}
	got, err := s.finalize(ctx, token.t, pre, list)
	if err != nil {
		s.leftBehind(ctx, pre.Certificate, err)
	}
	return got, err
}

// leftBehind records that a precertificate has no certificate.
func (s *Signer) leftBehind(ctx context.Context, c bulkhead.Certificate, why error) {
	ctx, cancel := detached(ctx)
	defer cancel()
	s.cfg.Log.ErrorContext(ctx, "a precertificate has no certificate: it counts as issued", "certificate", c.CertificateRef.String(), "error", why.Error())
	_, err := s.cfg.Store.AppendEvidence(ctx, bulkhead.Evidence{Kind: bulkhead.EvOrderRefused, At: s.now(), Actor: s.cfg.Actor, Authority: c.Issuer, Serial: c.Serial, Ref: c.OrderID,
		KeyHash: c.KeyHash, Digest: c.Fingerprint, Detail: "precertificate without a certificate: " + bulkhead.AsFault(why).Detail})
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "the failure of a precertificate is not in evidence", "certificate", c.CertificateRef.String(), "error", err.Error())
	}
}

// timestamps submits and verifies. Only verified ones count; of each log the first.
func (s *Signer) timestamps(ctx context.Context, t *ticket, pre bulkhead.IssuedCertificate) ([]sct.SCT, error) {
	ctx, cancel := context.WithTimeout(ctx, ctTimeout)
	defer cancel()
	wanted := t.plan.draft.logs
	all, err := s.cfg.Transparency.AddPreChain(ctx, append([][]byte{pre.DER}, pre.Chain...), t.row.NotAfter, wanted)
	if err != nil {
		return nil, unavailable("the certificate transparency logs gave too few timestamps", err)
	}
	bare, had, err := sct.Bare(t.tbs)
	if err != nil || !had {
		return nil, fmt.Errorf("precertificate without poison: %w", err)
	}
	var list []sct.SCT
	var from []sct.Log
	var refused error
	for _, got := range all {
		i := slices.IndexFunc(s.cfg.Logs, func(l sct.Log) bool { return l.ID() == got.LogID })
		if i < 0 {
			refused = bulkhead.Faultf(bulkhead.KindGate, "a timestamp is from a log that is not configured")
			continue
		}
		log := s.cfg.Logs[i]
		if err := sct.Verify(got, log, t.authority.SPKI, bare, s.now()); err != nil || !log.Takes(t.row.NotAfter) {
			refused = err
			s.cfg.Log.WarnContext(ctx, "a timestamp was refused", "log", log.Name, "error", fmt.Sprint(err))
			continue
		}
		if !slices.ContainsFunc(list, func(x sct.SCT) bool { return x.LogID == got.LogID }) {
			list, from = append(list, got), append(from, log)
		}
	}
	if len(list) < wanted || !diverse(from) {
		return nil, unavailable(fmt.Sprintf("%d timestamps verify, %d of two operators and a log that is not tiled are needed", len(list), wanted), refused)
	}
	return list, nil
}

// finalize builds, lints and signs the certificate with a batch token of one, and puts it in the place of the
// precertificate.
func (s *Signer) finalize(ctx context.Context, t *ticket, pre bulkhead.IssuedCertificate, list []sct.SCT) (bulkhead.IssuedCertificate, error) {
	none := bulkhead.IssuedCertificate{}
	extension, err := sct.Extension(list)
	if err != nil {
		return none, fmt.Errorf("timestamps: %w", err)
	}
	template := t.plan.template
	template.ExtraExtensions = append(slices.Clone(template.ExtraExtensions), extension)
	twin, err := s.twin(t.authority, &template, t.plan.draft.spki, t.plan.draft.set, s.expect(t.plan.draft, t.row), s.now())
	if err != nil {
		return none, err
	}
	if err := sameBut(twin.RawTBSCertificate, t.tbs); err != nil {
		return none, err
	}
	if err := s.mayStill(ctx, t.row.KeyHash, t.row.Kind, t.subject); err != nil {
		return none, err
	}
	b, err := s.newBatch(t.row.Issuer, t.authority.hash, "certificate of precertificate "+t.row.CertificateRef.String())
	if err != nil {
		return none, err
	}
	if err := s.announce(ctx, b, []bulkhead.Hash{bulkhead.Digest(twin.RawTBSCertificate)}); err != nil {
		return none, err
	}
	der, err := s.signTBS(t.authority, twin.RawTBSCertificate)
	if err != nil {
		return none, unavailable("the issuing key did not sign", err)
	}
	row := pre.Certificate
	row.Kind, row.Fingerprint = bulkhead.LeafCertificate, bulkhead.Digest(der)
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return none, fmt.Errorf("parse certificate: %w", err)
	}
	if err := s.settle(ctx, b, row, parsed); err != nil {
		return none, err
	}
	return bulkhead.IssuedCertificate{Certificate: row, DER: der, Chain: pre.Chain}, nil
}

// settle makes the outcome durable together with the certificate.
func (s *Signer) settle(ctx context.Context, b *batch, row bulkhead.Certificate, cert *x509.Certificate) error {
	ctx, cancel := detached(ctx)
	defer cancel()
	ev := b.outcome([]bulkhead.Hash{bulkhead.Digest(cert.Signature)}, s.now(), s.cfg.Actor)
	ev.Serial, ev.KeyHash, ev.Detail = row.Serial, row.KeyHash, b.detail+": SHA-256 "+row.Fingerprint.String()
	if err := s.cfg.Store.Finalize(ctx, row.CertificateRef, cert.Raw, ev); err != nil {
		return hinted(err, "see: bulkhead cert show "+row.Serial.String())
	}
	return nil
}

// sameBut holds the two TBSCertificates together: equal octet for octet without poison and timestamps.
func sameBut(final, precert []byte) error {
	a, hadList, err := sct.Bare(final)
	if err != nil {
		return err
	}
	p, hadPoison, err := sct.Bare(precert)
	if err != nil {
		return err
	}
	if !hadList || !hadPoison || !bytes.Equal(a, p) {
		return bulkhead.NewFault(bulkhead.KindInternal, "the certificate differs from its precertificate in more than the timestamps").WithHint("report this: nothing was signed")
	}
	return nil
}
