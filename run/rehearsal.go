package run

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"time"

	"bulkhead"
	"bulkhead/console"
	"bulkhead/enroll"
	"bulkhead/keys"
	"bulkhead/pki/ocsp"
	"bulkhead/quorum"
)

// Rehearsal is what a house gives that was opened for one: authorities with names, serial numbers and dates of a historic
// day, which no ceremony would sign. Its keys are throw-away keys of the rehearsal's own directory.
type Rehearsal struct{ h *House }

// Rehearsal is refused with KindGate unless the house was opened for one.
func (h *House) Rehearsal() (*Rehearsal, error) {
	if !h.historic {
		return nil, bulkhead.NewFault(bulkhead.KindGate, "this house was not opened for a rehearsal").WithHint("bulkhead drill list")
	}
	return &Rehearsal{h}, nil
}

// planted changes what the house says it would say: the fault that a preview must find.
type planted struct {
	door
	fault func(change string, a *bulkhead.ShadowAnswer)
}

// ShadowAnswers implements status.Signer.
func (p planted) ShadowAnswers(ctx context.Context, change string, issuer bulkhead.AuthorityID, serials []bulkhead.Serial) iter.Seq2[bulkhead.ShadowAnswer, error] {
	return func(yield func(bulkhead.ShadowAnswer, error) bool) {
		for a, err := range p.door.ShadowAnswers(ctx, change, issuer, serials) {
			if err == nil {
				p.fault(change, &a)
			}
			if !yield(a, err) {
				return
			}
		}
	}
}

// RehearsedAuthority is an authority of a rehearsal.
type RehearsedAuthority struct {
	ID        bulkhead.AuthorityID
	Name      string // common name
	Parent    bulkhead.AuthorityID
	Serial    string // hex, of its certificate
	NotBefore time.Time
	NotAfter  time.Time
}

func (a RehearsedAuthority) template() (*x509.Certificate, error) {
	serial, err := bulkhead.ParseSerial(a.Serial)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{SerialNumber: serial.Big(), Subject: pkix.Name{CommonName: a.Name, Organization: []string{"Rehearsal"}, Country: []string{"JP"}}, NotBefore: a.NotBefore, NotAfter: a.NotAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature}, nil
}

// Authority makes an authority with a key of the rehearsal; one without a parent is a root of its own.
func (r *Rehearsal) Authority(ctx context.Context, a RehearsedAuthority) error {
	tmpl, err := a.template()
	if err != nil {
		return err
	}
	uri, key, err := r.h.ring.Generate(ctx, string(a.ID), keys.P256)
	if err != nil {
		return err
	}
	out := bulkhead.Authority{ID: a.ID, Kind: bulkhead.IssuingAuthority, State: bulkhead.AuthorityActive, Parent: a.Parent, KeyURI: uri, Shards: 1, CreatedAt: r.h.now().UTC()}
	issuer, signer := tmpl, crypto.Signer(key)
	if a.Parent != "" {
		parent, err := r.h.store.Authority(ctx, a.Parent)
		if err != nil {
			return err
		}
		if issuer, signer, err = r.signerOf(ctx, parent); err != nil {
			return err
		}
		out.Chain = append([][]byte{parent.Certificate}, parent.Chain...)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, key.Public(), signer)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", a.ID, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("certificate of %s: %w", a.ID, err)
	}
	out.Subject, out.SPKI, out.Certificate = cert.RawSubject, cert.RawSubjectPublicKeyInfo, der
	now := r.h.now().UTC()
	if err := r.h.store.PutAuthority(ctx, out, bulkhead.Evidence{Kind: bulkhead.EvAuthority, At: now, Actor: "role:drill", Authority: a.ID, KeyHash: bulkhead.Digest(out.SPKI), Digest: bulkhead.Digest(der), Detail: "made for a rehearsal"}); err != nil {
		return err
	}
	if a.Parent == "" {
		return nil
	}
	_, err = r.record(ctx, a.Parent, cert)
	return err
}

func (r *Rehearsal) signerOf(ctx context.Context, a bulkhead.Authority) (*x509.Certificate, crypto.Signer, error) {
	cert, err := x509.ParseCertificate(a.Certificate)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of %s: %w", a.ID, err)
	}
	key, err := r.h.ring.Open(ctx, a.KeyURI)
	return cert, key, err
}

// record puts the certificate of an authority among what its issuer issued.
func (r *Rehearsal) record(ctx context.Context, issuer bulkhead.AuthorityID, cert *x509.Certificate) (bulkhead.CertificateRef, error) {
	serial, err := bulkhead.SerialFromBig(cert.SerialNumber)
	if err != nil {
		return bulkhead.CertificateRef{}, err
	}
	ref := bulkhead.CertificateRef{Issuer: issuer, Serial: serial}
	return ref, r.h.plantCertificate(ctx, "role:drill", bulkhead.IssuedCertificate{DER: cert.Raw, Certificate: bulkhead.Certificate{CertificateRef: ref, Kind: bulkhead.CACertificate, Profile: "issuing",
		Subject: cert.Subject.String(), KeyHash: bulkhead.Digest(cert.RawSubjectPublicKeyInfo), NotBefore: cert.NotBefore, NotAfter: cert.NotAfter}}, bulkhead.Digest([]byte("rehearsal")), r.h.now().UTC())
}

// Cross certifies the name and key of one authority by another: a cross-certificate, or a stand-by.
func (r *Rehearsal) Cross(ctx context.Context, subject bulkhead.AuthorityID, by RehearsedAuthority) (bulkhead.CertificateRef, error) {
	of, err := r.h.store.Authority(ctx, subject)
	if err != nil {
		return bulkhead.CertificateRef{}, err
	}
	cert, err := x509.ParseCertificate(of.Certificate)
	if err != nil {
		return bulkhead.CertificateRef{}, fmt.Errorf("certificate of %s: %w", subject, err)
	}
	parent, err := r.h.store.Authority(ctx, by.Parent)
	if err != nil {
		return bulkhead.CertificateRef{}, err
	}
	issuer, key, err := r.signerOf(ctx, parent)
	if err != nil {
		return bulkhead.CertificateRef{}, err
	}
	tmpl, err := by.template()
	if err != nil {
		return bulkhead.CertificateRef{}, err
	}
	tmpl.RawSubject = cert.RawSubject
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, cert.PublicKey, key)
	if err != nil {
		return bulkhead.CertificateRef{}, fmt.Errorf("cross-certificate of %s: %w", subject, err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return bulkhead.CertificateRef{}, fmt.Errorf("cross-certificate of %s: %w", subject, err)
	}
	return r.record(ctx, by.Parent, made)
}

// Issue has the house issue a certificate of one of its own names, by the ordinary path: order, evidence, signer.
func (r *Rehearsal) Issue(ctx context.Context, authority bulkhead.AuthorityID, profile, name string) (bulkhead.IssuedCertificate, error) {
	_, csr, err := requestFor(name)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	acct, err := r.OwnAccount(ctx)
	if err != nil {
		return bulkhead.IssuedCertificate{}, err
	}
	return r.Order(ctx, acct, authority, profile, csr, bulkhead.CertificateRef{})
}

// OwnAccount makes an account of the house itself.
func (r *Rehearsal) OwnAccount(ctx context.Context) (bulkhead.Account, error) {
	acct, _, err := r.h.enroll.NewTokenAccount(ctx, "operator:drill", true)
	return acct, err
}

// Order is an order of the house itself, on an operator's word.
func (r *Rehearsal) Order(ctx context.Context, own bulkhead.Account, authority bulkhead.AuthorityID, profile string, csr []byte, replaces bulkhead.CertificateRef) (bulkhead.IssuedCertificate, error) {
	return r.h.enroll.OperatorOrder(ctx, "operator:drill", own, enroll.Upload{CSR: csr, Profile: profile, Authority: authority, Replaces: replaces})
}

// Approve takes a previewed change through the quorum: asked for, and signed by the two operators of the first start.
func (r *Rehearsal) Approve(ctx context.Context, c bulkhead.Change, reason string) error {
	req, err := operators{r.h.quorum, r.h.gate}.ProposeActivation(ctx, "operator:operator-1", reason, c)
	if err != nil {
		return err
	}
	return r.sign(ctx, req, 2)
}

// sign approves a request as the first n operators of the first start.
func (r *Rehearsal) sign(ctx context.Context, req bulkhead.ApprovalRequest, n int) error {
	for i := range n {
		if err := r.Sign(ctx, req.ID, i); err != nil {
			return err
		}
	}
	return nil
}

// Sign approves a request as one of the two operators of the first start, 0 or 1.
func (r *Rehearsal) Sign(ctx context.Context, id string, operator int) error {
	text, err := os.ReadFile([]string{filepath.Join(r.h.dir, operatorKey), filepath.Join(RootDir(r.h.dir), secondOperator)}[operator])
	if err != nil {
		return fmt.Errorf("operator key: %w", err)
	}
	key, err := quorum.ParseKey(text)
	if err != nil {
		return err
	}
	req, err := r.h.quorum.Request(ctx, id)
	if err != nil {
		return err
	}
	_, err = r.h.quorum.Approve(ctx, id, bulkhead.Operator{PublicKey: key.Public().(ed25519.PublicKey)}.KeyHash(), quorum.SignApproval(key, req))
	return err
}

// AskResume asks for the approvals that end a stop.
func (r *Rehearsal) AskResume(ctx context.Context, x bulkhead.Stop, why string) (bulkhead.ApprovalRequest, error) {
	return r.h.quorum.Propose(ctx, console.ActionResume, console.ResumePayload{Stop: x.ID, Scope: x.Scope(), Reason: x.Reason, Why: why}, "operator:operator-1", why)
}

// Caches is the cache tiers of this house, on its clock.
func (r *Rehearsal) Caches() (*CacheView, error) { return tiers{r.h}.view() }

// ForeignAnswer is what a responder that shares an authority's delegate, and not our record, says of a certificate:
// revoked, for the SHA-1 CertID. It is how a wrong answer is made that everybody believes.
func (r *Rehearsal) ForeignAnswer(ctx context.Context, ref bulkhead.CertificateRef, revoked time.Time, validity time.Duration) ([]byte, error) {
	a, err := r.h.store.Authority(ctx, ref.Issuer)
	if err != nil {
		return nil, err
	}
	d, err := r.h.signer.EnsureDelegate(ctx, ref.Issuer)
	if err != nil {
		return nil, err
	}
	key, err := r.h.ring.Open(ctx, d.KeyURI)
	if err != nil {
		return nil, err
	}
	now := r.h.now().UTC().Truncate(time.Second)
	return answerBy(a, key, d.Certificate, now, ocsp.Single{Serial: ref.Serial, State: ocsp.Revoked, RevokedAt: revoked.UTC().Truncate(time.Second), Reason: bulkhead.CessationOfOperation, HasReason: true,
		ThisUpdate: now.Add(-time.Minute), NextUpdate: now.Add(validity)}, ocsp.SHA1)
}

// answerBy is an answer about a certificate of an authority, by whatever key: it asks nobody whether it may.
func answerBy(about bulkhead.Authority, key crypto.Signer, responder []byte, produced time.Time, is ocsp.Single, hash ocsp.HashAlgorithm) ([]byte, error) {
	cert, err := x509.ParseCertificate(responder)
	if err != nil {
		return nil, fmt.Errorf("certificate of a responder: %w", err)
	}
	id, err := ocsp.NewIssuer(about.Subject, about.SPKI)
	if err != nil {
		return nil, err
	}
	by, err := ocsp.KeyHash(cert.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	tbs, err := ocsp.BuildTBSFor(id, by, produced, is, hash)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(tbs)
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("an answer past the signer: %w", err)
	}
	return ocsp.Assemble(tbs, sig, responder), nil
}
