package signer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
	"bulkhead/pki/sct"
)

// draft is a certificate to be: everything but serial and dates, which the signer chooses.
type draft struct {
	authority *authority
	kind      bulkhead.CertificateKind
	profile   string
	names     []bulkhead.Identifier
	pub       crypto.PublicKey
	spki      []byte
	accountID string
	orderID   string
	replaces  bulkhead.CertificateRef
	actor     string
	set       lint.Set
	mandate   mandate
	logs      int // timestamps to get; 0 for none
	// template is called once per serial; shard is where the certificate's revocation would be listed.
	template func(serial bulkhead.Serial, now time.Time, shard int) (*x509.Certificate, error)
}

// Prepare checks a request against policy, key rules, block list, evidence of validation and CAA, lints a twin, and
// makes the intent durable. After an error nothing is reserved, unless the commit itself was only reported lost, which
// Recover finds. Faults: KindForbidden and KindConflict for an authority that may not issue this, KindInvalidProfile,
// KindBadCSR, KindBadSignatureAlgorithm, KindBadPublicKey, KindRejectedIdentifier, KindUnsupportedIdentifier, KindUnauthorized or KindCAA with
// a sub-fault per name, KindGate from lint, KindStopped, KindRateLimited, KindUserActionRequired, KindUnavailable.
func (s *Signer) Prepare(ctx context.Context, req bulkhead.CertificateRequest) (*Token, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	d, err := s.judge(ctx, req, false)
	if err != nil {
		return nil, err
	}
	return s.reserve(ctx, d)
}

// prepare is Prepare, or finds what an earlier try left when the order has a precertificate already. An early one leaves CAA to permitted.
func (s *Signer) prepare(ctx context.Context, req bulkhead.CertificateRequest, early bool) (*prepared, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	d, err := s.judge(ctx, req, early)
	if err != nil {
		return nil, err
	}
	if d.logs > 0 {
		if was, err := s.unfinished(ctx, d); was != nil || err != nil {
			return was, err
		}
	}
	t, err := s.reserve(ctx, d)
	return &prepared{Token: t}, err
}

// judge makes every check of a request that needs no serial; an early one all but that of CAA.
func (s *Signer) judge(ctx context.Context, req bulkhead.CertificateRequest, early bool) (*draft, error) {
	p, err := s.cfg.Book.Profile(ctx, req.Profile)
	if err != nil {
		return nil, err
	}
	if req.Authority == "" {
		req.Authority = p.DefaultAuthority
	}
	a, err := s.authority(ctx, req.Authority)
	if err != nil {
		return nil, err
	}
	if err := a.mayIssue(bulkhead.IssuingAuthority); err != nil {
		return nil, err
	}
	if err := allowedUsages(a, p); err != nil {
		return nil, err
	}
	names := slices.Clone(req.Names)
	if err := p.CheckNames(names); err != nil {
		return nil, err
	}
	if err := profile.CheckConstraints(names, a.above); err != nil {
		return nil, err
	}
	m, err := s.mandate(ctx, req, p, names)
	if err != nil {
		return nil, err
	}
	csr, err := s.parseCSR(req.CSR, names)
	if err != nil {
		return nil, err
	}
	rules := s.rules
	rules.Ed25519 = rules.Ed25519 || slices.Contains(p.Keys, profile.Ed25519) // Template allows it for this profile only
	if err := s.judgeKey(csr.PublicKey, csr.RawSubjectPublicKeyInfo, a, rules); err != nil {
		return nil, err
	}
	if m.subject.Methods, err = s.checkEvidence(req, names, m, early); err != nil {
		return nil, err
	}
	if err := m.stops.Refuse(m.subject); err != nil {
		return nil, err
	}
	d := &draft{authority: a, kind: bulkhead.LeafCertificate, profile: p.Name, names: names, pub: csr.PublicKey, spki: csr.RawSubjectPublicKeyInfo,
		accountID: req.AccountID, orderID: req.OrderID, replaces: req.Replaces, actor: "account:" + req.AccountID, set: setOf(p), mandate: m}
	if d.logs = p.Logs; d.logs > 0 {
		d.kind = bulkhead.Precertificate
		if err := s.canBeLogged(d.logs, p.Validity); err != nil {
			return nil, err
		}
	}
	d.template = func(serial bulkhead.Serial, now time.Time, shard int) (*x509.Certificate, error) {
		return p.Template(profile.Input{Issuer: a.cert, IssuerID: a.ID, Names: names, PublicKey: d.pub, Serial: serial, Now: now, Shard: shard, URLs: s.cfg.URLs})
	}
	return d, nil
}

// fixedProfiles are profiles that never change.
type fixedProfiles map[string]*profile.Profile

// Profile implements Profiles.
func (f fixedProfiles) Profile(_ context.Context, name string) (*profile.Profile, error) {
	if p, ok := f[name]; ok {
		return p, nil
	}
	names := make([]string, 0, len(f))
	for n := range f {
		names = append(names, n)
	}
	slices.Sort(names)
	return nil, bulkhead.Faultf(bulkhead.KindInvalidProfile, "profile %q does not exist", name).WithHint("use one of: " + strings.Join(names, ", "))
}

// shortLived is the longest validity of a short-lived certificate (BR 1.6.1, since 2026-03-15). It only chooses which
// lint rules apply; lint itself holds the dated limit.
const shortLived = 7 * 24 * time.Hour

func setOf(p *profile.Profile) lint.Set {
	switch {
	case p.Kind == profile.TLSClient:
		return lint.SetTLSClient
	case p.Kind == profile.SMIME:
		return lint.SetSMIME
	case p.Kind == profile.CodeSigning:
		return lint.SetCodeSigning
	case p.Validity <= shortLived:
		return lint.SetTLSServerShort
	default:
		return lint.SetTLSServer
	}
}

// allowedUsages refuses a profile whose purposes the issuer's own certificate does not have. An issuer without extended
// key usages could certify anything; it serves TLS only, because mail and code want authorities of their own.
func allowedUsages(a *authority, p *profile.Profile) error {
	have := a.cert.ExtKeyUsage
	if len(have) == 0 && len(a.cert.UnknownExtKeyUsage) == 0 || slices.Contains(have, x509.ExtKeyUsageAny) {
		have = profile.UsageTLS.EKUs()
	}
	for _, u := range p.EKUs {
		if !slices.Contains(have, u) {
			return bulkhead.Faultf(bulkhead.KindForbidden, "authority %s may not certify a purpose of profile %s, which is for %s", a.ID, p.Name, p.Usage()).
				WithHint("choose an authority for it, or make one: bulkhead hierarchy add NAME --usage " + string(p.Usage()))
		}
	}
	return nil
}

// parseCSR proves possession of the key and that the request asks for nothing beyond the order. Extensions other than
// names are ignored: certificates get theirs from the profile. A request to be an authority is refused outright.
func (s *Signer) parseCSR(der []byte, names []bulkhead.Identifier) (*x509.CertificateRequest, error) {
	bad := func(format string, args ...any) *bulkhead.Fault {
		return bulkhead.Faultf(bulkhead.KindBadCSR, format, args...).WithHint("make a new CSR for exactly the names of the order")
	}
	req, err := s.cfg.Requests.Read(der)
	if err != nil {
		return nil, err
	}
	for _, n := range requestedNames(req) {
		if !slices.Contains(names, n) {
			return nil, bad("the CSR asks for %q, which the order does not have", n.Value)
		}
	}
	if len(req.URIs) > 0 {
		return nil, bad("the CSR asks for a URI")
	}
	for _, e := range req.Extensions {
		if e.Id.Equal([]int{2, 5, 29, 19}) && bytes.Contains(e.Value, []byte{0x01, 0x01, 0xff}) { // cA TRUE
			return nil, bad("the CSR asks to become an authority")
		}
	}
	return req, nil
}

// requestedNames lists the names of a CSR as the order would hold them; a common name counts.
func requestedNames(csr *x509.CertificateRequest) []bulkhead.Identifier {
	var ids []bulkhead.Identifier
	for _, n := range csr.DNSNames {
		ids = append(ids, bulkhead.Identifier{Type: bulkhead.DNS, Value: strings.ToLower(n)})
	}
	for _, ip := range csr.IPAddresses {
		ids = append(ids, bulkhead.Identifier{Type: bulkhead.IP, Value: ip.String()})
	}
	for _, m := range csr.EmailAddresses {
		ids = append(ids, bulkhead.Identifier{Type: bulkhead.Email, Value: m})
	}
	if cn := csr.Subject.CommonName; cn != "" {
		id, err := bulkhead.ParseIdentifier(cn)
		if err != nil {
			id = bulkhead.Identifier{Type: bulkhead.DNS, Value: cn} // matches no order
		}
		ids = append(ids, id)
	}
	return ids
}

// checkKey refuses weak keys, blocked keys and the issuer's own.
func (s *Signer) checkKey(ctx context.Context, pub crypto.PublicKey, spki []byte, a *authority, rules keycheck.Rules) error {
	if err := s.judgeKey(pub, spki, a, rules); err != nil {
		return err
	}
	return s.notBlocked(ctx, keycheck.SPKIHash(spki))
}

// judgeKey refuses weak keys and the issuer's own. It is enough before a reservation: the commit of the intent refuses
// blocked keys, and Sign asks again.
func (s *Signer) judgeKey(pub crypto.PublicKey, spki []byte, a *authority, rules keycheck.Rules) error {
	if err := keycheck.Check(pub, rules); err != nil {
		return err
	}
	again, err := keycheck.SPKI(pub)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, spki) {
		// Two encodings of one key would have two hashes, and a block of one would miss the other.
		return bulkhead.NewFault(bulkhead.KindBadPublicKey, "the key is not in its canonical encoding").WithHint("make the CSR with another tool")
	}
	if bytes.Equal(spki, a.SPKI) {
		return bulkhead.NewFault(bulkhead.KindBadPublicKey, "this is the issuer's own key").WithHint("make a key pair of your own")
	}
	return nil
}

// reserve builds and lints the twin and commits the intent, with a new serial when one is taken.
func (s *Signer) reserve(ctx context.Context, d *draft) (*Token, error) {
	for try := 1; ; try++ {
		t, err := s.reserveOnce(ctx, d)
		if try < reserveTries && errors.Is(err, errTaken) {
			s.cfg.Log.WarnContext(ctx, "a random serial was taken: check the random source")
			continue
		}
		return t, err
	}
}

var errTaken = errors.New("the serial is taken")

func (s *Signer) reserveOnce(ctx context.Context, d *draft) (*Token, error) {
	serial, err := s.randomSerial()
	if err != nil {
		return nil, err
	}
	now, shard := s.now(), profile.ShardOf(serial, d.authority.Shards)
	template, err := d.template(serial, now, shard)
	if err != nil {
		return nil, err
	}
	var bare *plan
	if d.logs > 0 {
		bare = &plan{template: *template, draft: d}
		template.ExtraExtensions = append(slices.Clone(template.ExtraExtensions), sct.Poison())
	}
	row := bulkhead.Certificate{CertificateRef: bulkhead.CertificateRef{Issuer: d.authority.ID, Serial: serial}, Kind: d.kind, State: bulkhead.Reserved,
		Profile: d.profile, Names: d.names, KeyHash: keycheck.SPKIHash(d.spki), AccountID: d.accountID, OrderID: d.orderID,
		Shard: shard, ReservedAt: now, Replaces: d.replaces}
	twin, err := s.twin(d.authority, template, d.spki, d.set, s.expect(d, row), now)
	if err != nil {
		return nil, err
	}
	if err := agrees(twin, d, serial); err != nil {
		return nil, err
	}
	row.Subject, row.NotBefore, row.NotAfter = twin.Subject.String(), twin.NotBefore.UTC(), twin.NotAfter.UTC()
	t := &ticket{owner: s, authority: d.authority, row: row, tbs: bytes.Clone(twin.RawTBSCertificate), subject: d.mandate.subject, actor: d.actor, expires: now.Add(tokenLife), plan: bare}
	t.digest = bulkhead.Digest(t.tbs)
	intent := bulkhead.Evidence{Kind: bulkhead.EvCertificateIntent, At: now, Actor: d.actor, Authority: row.Issuer, Serial: serial, Ref: row.OrderID,
		KeyHash: row.KeyHash, Signer: d.authority.hash, Digest: t.digest}
	if bare != nil {
		intent.Detail = "precertificate"
	}
	s.hold(row.CertificateRef)
	t.row.IntentSeq, err = s.reserves.do(ctx.Done(), bulkhead.Reservation{Certificate: row, Intent: intent, Volume: d.mandate.volume})
	if err != nil {
		s.release(row.CertificateRef)
		switch {
		case errors.Is(err, errNotTaken):
			return nil, unavailable("the request was given up", ctx.Err())
		case bulkhead.KindOf(err) == bulkhead.KindConflict:
			return nil, unavailable("no free serial number was found", errTaken)
		}
		return nil, err
	}
	if ctx.Err() != nil { // nobody waits for the token
		s.abandon(ctx, t.row, t.digest, "the request was given up before it was signed")
		return nil, unavailable("the request was given up", ctx.Err())
	}
	return &Token{t}, nil
}

// expect is what lint is to find in the twin.
func (s *Signer) expect(d *draft, row bulkhead.Certificate) lint.Expect {
	want := lint.Expect{KeyHash: row.KeyHash, Above: d.authority.above}
	if d.kind == bulkhead.DelegateCertificate {
		want.Names = []bulkhead.Identifier{}
		return want
	}
	want.Names = d.names
	want.CRLURL, want.OCSPURL, want.CAURL = s.cfg.URLs.CRL(d.authority.ID, row.Shard), s.cfg.URLs.OCSP(), s.cfg.URLs.CA(d.authority.ID)
	return want
}

// agrees holds whatever the profile did: serial and key are the ones reserved, it is no authority, and it does not
// outlive its issuer.
func agrees(twin *x509.Certificate, d *draft, serial bulkhead.Serial) error {
	got, err := bulkhead.SerialFromBig(twin.SerialNumber)
	switch {
	case err != nil || got != serial || !bytes.Equal(twin.RawSubjectPublicKeyInfo, d.spki):
		return fmt.Errorf("twin has another serial or key than was decided")
	case twin.IsCA || twin.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return bulkhead.NewFault(bulkhead.KindGate, "the template is one of an authority").WithHint("authorities are made by ceremony")
	case twin.NotAfter.After(d.authority.cert.NotAfter):
		return bulkhead.Faultf(bulkhead.KindGate, "the certificate would outlive authority %s", d.authority.ID).WithHint("rotate the authority: bulkhead hierarchy rotate")
	}
	if _, ok := d.pub.(ed25519.PublicKey); ok && d.set != lint.SetTLSClient {
		return bulkhead.NewFault(bulkhead.KindBadPublicKey, "Ed25519 keys are for TLS clients only (BR 6.1.5)").WithHint("use P-256")
	}
	return nil
}
