package ceremony

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/lint"
	"bulkhead/pki/profile"
)

func (e *execution) makeRoot(s RootStep) (Entry, error) {
	uri, signer, err := e.Ring.Generate(e.ctx, string(s.ID), s.Algorithm)
	if err != nil {
		return Entry{}, err
	}
	e.made = append(e.made, uri)
	serial, err := e.serial()
	if err != nil {
		return Entry{}, err
	}
	tmpl, err := profile.Root(profile.House{
		Subject: s.Subject.PKIX(), PublicKey: signer.Public(), Serial: serial, Now: e.start,
		Validity: time.Duration(s.Days) * day, Backdate: backdate,
	})
	if err != nil {
		return Entry{}, err
	}
	cert, err := e.sign(tmpl, nil, signer, RoleRoot)
	if err != nil {
		return Entry{}, err
	}
	h := &house{cert: cert, signer: signer, Authority: authorityOf(s.ID, bulkhead.RootAuthority, cert)}
	h.CreatedAt, h.Shards = e.start, 1
	// The key is offline: the record holds no URI for it (Authority.KeyURI); the transcript does.
	e.houses[s.ID] = h
	e.result.Authorities = append(e.result.Authorities, h.Authority)
	return Entry{
		Kind: "root", Authority: s.ID, Signer: s.ID,
		Inputs:  []Item{{What: "key", Digest: keyHash(cert), Detail: uri}},
		Outputs: []Item{certificateItem(cert)},
	}, nil
}

func (e *execution) makeIssuing(s IssuingStep) (Entry, error) {
	parent, err := e.parent(s.Parent)
	if err != nil {
		return Entry{}, err
	}
	csr, err := checkCSR(s.Request.CSR)
	if err != nil {
		return Entry{}, err
	}
	in, err := e.input(parent, s.Days)
	if err != nil {
		return Entry{}, err
	}
	if in.Usage, err = s.checkUsage(csr); err != nil {
		return Entry{}, err
	}
	in.Subject, in.PublicKey, in.Names = s.Subject.PKIX(), csr.PublicKey, s.Names
	tmpl, err := profile.Issuing(in)
	if err != nil {
		return Entry{}, err
	}
	cert, err := e.sign(tmpl, parent.cert, parent.signer, RoleIssuing)
	if err != nil {
		return Entry{}, err
	}
	h := &house{cert: cert, Authority: authorityOf(s.ID, s.Kind, cert)}
	h.Parent, h.Chain, h.KeyURI = parent.ID, parent.chain(), s.Request.KeyURI
	h.Shards, h.CreatedAt = s.Shards, e.start
	e.houses[s.ID] = h
	e.result.Authorities = append(e.result.Authorities, h.Authority)
	e.issued(parent, cert, bulkhead.CACertificate, RoleIssuing)
	return Entry{
		Kind: "issuing", Authority: s.ID, Signer: parent.ID,
		Inputs:  []Item{{What: "csr", Digest: bulkhead.Digest(s.Request.CSR), Detail: s.Request.KeyURI}, issuerItem(parent)},
		Outputs: []Item{certificateItem(cert)},
	}, nil
}

func (e *execution) makeCross(s CrossStep) (Entry, error) {
	parent, err := e.parent(s.Parent)
	if err != nil {
		return Entry{}, err
	}
	subject := e.houses[s.Subject]
	if !subject.cert.IsCA {
		return Entry{}, refused("%s is no authority", s.Subject).WithHint("cross-certificates are for authorities")
	}
	if bytes.Equal(parent.Subject, subject.Subject) {
		return Entry{}, refused("subject and issuer would have the same name").WithHint("sign with an authority of another name")
	}
	cert, err := e.crossCertificate(parent, subject, s.Days, s.PathLen)
	if err != nil {
		return Entry{}, err
	}
	return Entry{
		Kind: "cross", Authority: s.Subject, Signer: parent.ID,
		Inputs:  []Item{{What: "certificate", Digest: bulkhead.Digest(subject.cert.Raw)}, issuerItem(parent)},
		Outputs: []Item{certificateItem(cert)},
	}, nil
}

// crossCertificate signs a second certificate for an authority: its name, key, usage and name constraints as they are.
func (e *execution) crossCertificate(parent, subject *house, days, pathLen int) (*x509.Certificate, error) {
	in, err := e.input(parent, days)
	if err != nil {
		return nil, err
	}
	in.RawSubject, in.PublicKey, in.KeyID, in.PathLen = subject.Subject, subject.cert.PublicKey, subject.cert.SubjectKeyId, pathLen
	if usage, one := profile.UsageOf(subject.cert.ExtKeyUsage); one {
		in.Usage = usage // a cross-certificate grants nothing that the authority does not have
	}
	in.Names = profile.ConstraintsOf(subject.cert)
	tmpl, err := profile.Cross(in)
	if err != nil {
		return nil, err
	}
	cert, err := e.sign(tmpl, parent.cert, parent.signer, RoleCross)
	if err != nil {
		return nil, err
	}
	e.issued(parent, cert, bulkhead.CACertificate, RoleCross)
	return cert, nil
}

func (e *execution) makeDelegates(s DelegateStep) (Entry, error) {
	parent, err := e.parent(s.Authority)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{Kind: "delegate", Authority: s.Authority, Signer: parent.ID, Inputs: []Item{issuerItem(parent)}}
	var keysSeen [][]byte
	for i, r := range s.Requests {
		csr, err := checkCSR(r.CSR)
		if err != nil {
			return Entry{}, err
		}
		if slices.ContainsFunc(keysSeen, func(k []byte) bool { return bytes.Equal(k, csr.RawSubjectPublicKeyInfo) }) {
			return Entry{}, refused("two delegates would share one key").WithHint("make a key for each: a predecessor's is destroyed at turnover")
		}
		keysSeen = append(keysSeen, csr.RawSubjectPublicKeyInfo)
		in, err := e.input(parent, (i+1)*s.TurnoverDays+s.OverlapDays)
		if err != nil {
			return Entry{}, err
		}
		in.Subject, in.PublicKey = s.Subject.PKIX(), csr.PublicKey
		tmpl, err := profile.OCSPDelegate(in)
		if err != nil {
			return Entry{}, err
		}
		cert, err := e.sign(tmpl, parent.cert, parent.signer, RoleDelegate)
		if err != nil {
			return Entry{}, err
		}
		e.issued(parent, cert, bulkhead.DelegateCertificate, RoleDelegate)
		e.result.Prepared = append(e.result.Prepared, bulkhead.Prepared{
			Authority: parent.ID, Kind: bulkhead.PreparedDelegate, NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, DER: cert.Raw, KeyURI: r.KeyURI,
		})
		entry.Inputs = append(entry.Inputs, Item{What: "csr", Digest: bulkhead.Digest(r.CSR), Detail: r.KeyURI})
		entry.Outputs = append(entry.Outputs, certificateItem(cert))
	}
	return entry, nil
}

func (e *execution) makeCRLs(s CRLStep) (Entry, error) {
	parent, err := e.parent(s.Authority)
	if err != nil {
		return Entry{}, err
	}
	number, err := e.lastNumber(s)
	if err != nil {
		return Entry{}, err
	}
	entries, err := crlEntries(s.Revoked)
	if err != nil {
		return Entry{}, err
	}
	entry := Entry{Kind: "crl", Authority: s.Authority, Signer: parent.ID, Inputs: []Item{revokedItem(s.Revoked), issuerItem(parent)}}
	base, err := e.firstUpdate(parent, entries)
	if err != nil {
		return Entry{}, err
	}
	for k := range s.count() {
		thisUpdate := base.Add(time.Duration(k*s.TurnoverDays) * day)
		nextUpdate := thisUpdate.Add(time.Duration(s.TurnoverDays+s.OverlapDays)*day - time.Second)
		if nextUpdate.After(parent.cert.NotAfter) {
			nextUpdate = parent.cert.NotAfter
		}
		if !nextUpdate.After(thisUpdate) {
			break // the authority has ended before this successor begins
		}
		number++
		info := crl.Info{Number: number, ThisUpdate: thisUpdate, NextUpdate: nextUpdate}
		der, err := e.makeCRL(parent, info, entries)
		if err != nil {
			return Entry{}, err
		}
		e.result.Prepared = append(e.result.Prepared, bulkhead.Prepared{
			Authority: parent.ID, Kind: bulkhead.PreparedCRL, Change: e.plan.Change, NotBefore: thisUpdate, NotAfter: nextUpdate, DER: der, CRLNumber: number,
		})
		entry.Outputs = append(entry.Outputs, Item{What: "crl", Digest: bulkhead.Digest(der), Detail: strconv.FormatInt(number, 10)})
		e.record.CRLNumbers[s.Authority] = number
	}
	return entry, nil
}

// lastNumber is the number after which a series begins: that of the plan, which may not lie below what an earlier
// ceremony signed, or of an earlier step.
func (e *execution) lastNumber(s CRLStep) (int64, error) {
	if last := e.earlier[s.Authority]; last > s.AfterNumber {
		return 0, refused("after_number is %d, but number %d was signed in an earlier ceremony", s.AfterNumber, last).
			WithHint(fmt.Sprintf("after_number: %d (CRL numbers never go back, BR 7.2.2)", last))
	}
	number := max(s.AfterNumber, e.record.CRLNumbers[s.Authority])
	if number > math.MaxInt64-maxObjects {
		return 0, refused("after_number %d leaves no number to follow", s.AfterNumber).WithHint("after_number: the highest CRL number ever signed")
	}
	return number, nil
}

// firstUpdate is thisUpdate of the first CRL of a series: backdated for clocks that are behind, and before neither the
// authority nor the newest revocation (RFC 5280 section 5.1.2.4).
func (e *execution) firstUpdate(parent *house, entries []crl.Entry) (time.Time, error) {
	base := e.start.Add(-backdate)
	if base.Before(parent.cert.NotBefore) {
		base = parent.cert.NotBefore
	}
	for _, x := range entries {
		if x.RevokedAt.After(e.start) {
			return base, refused("certificate %s would be revoked in the future, at %s", x.Serial, x.RevokedAt.Format(time.RFC3339)).WithHint("at: a time before the ceremony")
		}
		if x.RevokedAt.After(base) {
			base = x.RevokedAt
		}
	}
	return base, nil
}

// makeCRL signs one list as certificates are signed: twin, lint, the same bytes. It is full and has no issuing
// distribution point: an authority of a ceremony has one shard.
func (e *execution) makeCRL(parent *house, info crl.Info, entries []crl.Entry) ([]byte, error) {
	key, err := e.throwAway(parent.cert.PublicKey)
	if err != nil {
		return nil, err
	}
	stand := *parent.cert
	stand.PublicKey = key.Public()
	twin, err := e.writeCRL(&stand, key, info, entries)
	if err != nil {
		return nil, err
	}
	findings, err := e.Lint.ExpectedCRL(twin.Raw, lint.SetRootCRL, info.ThisUpdate, lint.Expect{Issuer: parent.cert})
	if err != nil {
		return nil, err
	}
	if err := lint.Blocking(findings); err != nil {
		return nil, err
	}
	list, err := e.writeCRL(parent.cert, parent.signer, info, entries)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(list.RawTBSRevocationList, twin.RawTBSRevocationList) {
		return nil, errOtherBytes()
	}
	return list.Raw, nil
}

// writeCRL encodes, signs and verifies.
func (e *execution) writeCRL(issuer *x509.Certificate, signer crypto.Signer, info crl.Info, entries []crl.Entry) (*x509.RevocationList, error) {
	info.Issuer = issuer
	var out bytes.Buffer
	_, err := crl.Write(&out, info, entries, func(t crl.ToSign) ([]byte, error) { return signer.Sign(e.Rand, t.Digest, t.Hash) })
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("read CRL back: %w", err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		return nil, fmt.Errorf("verify CRL after signing: %w", err)
	}
	return list, nil
}

// crlEntries sorts and checks; every entry of an authority's CRL has a reason (BR 7.2.2).
func crlEntries(revoked []RevokedChild) ([]crl.Entry, error) {
	var list []crl.Entry
	for _, r := range revoked {
		reason, err := bulkhead.ParseReason(r.Reason)
		if err != nil {
			return nil, err
		}
		if r.Serial.IsZero() || r.At.IsZero() || reason == bulkhead.Unspecified || !reason.AllowedForLeaf() {
			return nil, refused("a revoked authority needs serial, time and one of the reasons of BR 7.2.2, not %s", reason).
				WithHint("revoked: [{serial, at, reason: keyCompromise}]; or superseded, cessationOfOperation, affiliationChanged, privilegeWithdrawn")
		}
		list = append(list, crl.Entry{Serial: r.Serial, RevokedAt: r.At.UTC().Truncate(time.Second), Reason: reason})
	}
	slices.SortFunc(list, func(a, b crl.Entry) int { return a.Serial.Compare(b.Serial) })
	return list, nil
}

// input is what the templates of all children of a parent share.
func (e *execution) input(parent *house, days int) (profile.House, error) {
	serial, err := e.serial()
	if err != nil {
		return profile.House{}, err
	}
	return profile.House{
		Serial: serial, Now: e.start, Validity: time.Duration(days) * day, Backdate: backdate,
		Parent: parent.cert, ParentID: parent.ID, URLs: e.urls,
	}, nil
}

// chain is what stands above the children of h.
func (h *house) chain() [][]byte { return append([][]byte{h.cert.Raw}, h.Chain...) }

// issued adds the row of a certificate below an authority.
func (e *execution) issued(parent *house, cert *x509.Certificate, kind bulkhead.CertificateKind, role Role) {
	serial, _ := bulkhead.SerialFromBig(cert.SerialNumber) // made by serial(), and gated
	e.result.Certificates = append(e.result.Certificates, bulkhead.IssuedCertificate{
		DER: cert.Raw, Chain: parent.chain(),
		Certificate: bulkhead.Certificate{
			CertificateRef: bulkhead.CertificateRef{Issuer: parent.ID, Serial: serial},
			Kind:           kind, State: bulkhead.Issued, Profile: string(role), Subject: cert.Subject.String(),
			KeyHash: keyHash(cert), Fingerprint: bulkhead.Digest(cert.Raw),
			NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, ReservedAt: e.start,
		},
	})
}

func authorityOf(id bulkhead.AuthorityID, kind bulkhead.AuthorityKind, cert *x509.Certificate) bulkhead.Authority {
	return bulkhead.Authority{
		ID: id, Kind: kind, State: bulkhead.AuthorityActive, Subject: cert.RawSubject, SPKI: cert.RawSubjectPublicKeyInfo, Certificate: cert.Raw,
	}
}

func keyHash(cert *x509.Certificate) bulkhead.Hash {
	return bulkhead.Digest(cert.RawSubjectPublicKeyInfo)
}

func certificateItem(cert *x509.Certificate) Item {
	return Item{What: "certificate", Digest: bulkhead.Digest(cert.Raw), Detail: fmt.Sprintf("serial %x, until %s", cert.SerialNumber, cert.NotAfter.UTC().Format(time.RFC3339))}
}

func issuerItem(h *house) Item { return Item{What: "issuer", Digest: bulkhead.Digest(h.cert.Raw)} }
