package outside

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
)

// Explainer explains answers. Record is required; without Public or Ledger it says what is missing.
type Explainer struct {
	Record Record
	Public Public
	Ledger *Reconciler
	Now    func() time.Time
}

// foreign begins the verdict on an answer that no key of ours signed.
const foreign = "no key of ours signed this answer"

// Explain reads a DER OCSP response, the certificate it is about when that is at hand (DER, may be nil), and the HTTP headers
// of the reply as text (may be empty). KindMalformed when the response cannot be read. What cannot be found out is said in
// Missing; an answer by a foreign key is no error: its signer is named.
func (x *Explainer) Explain(ctx context.Context, der, certificate []byte, headers string) (bulkhead.OCSPExplanation, error) {
	out := bulkhead.OCSPExplanation{Missing: []string{}}
	r, err := ocsp.ParseResponse(der)
	if err != nil {
		return out, err
	}
	out.Cache = x.cache(headers)
	if out.Status = r.Status.String(); r.Status != ocsp.Successful {
		out.Verdict = "an unsigned error (" + out.Status + "): it says nothing of any certificate, and anybody may have sent it"
		return out, nil
	}
	s := r.Singles[0]
	if certificate != nil {
		if s, err = about(r, certificate); err != nil {
			return out, err
		}
	}
	now := x.Now()
	out.Status, out.Serial, out.ProducedAt, out.ThisUpdate, out.NextUpdate = s.State.String(), s.Serial.String(), r.ProducedAt, s.ThisUpdate, s.NextUpdate
	if s.State == ocsp.Revoked {
		out.RevokedAt, out.Reason = s.RevokedAt, s.Reason.String()
	}
	if out.Cache != nil && out.Cache.KeepUntil.IsZero() {
		out.Cache.KeepUntil = s.NextUpdate
	}
	a, cert := x.authority(ctx, &out, s.CertID)
	x.signer(ctx, &out, r, a, cert, now)
	if cert != nil {
		if _, err := ocsp.CheckResponse(r, cert, s.Serial, now); err != nil {
			out.Refused = bulkhead.AsFault(err).Detail
		} else {
			out.Believed = true
		}
		x.record(ctx, &out, a.ID, s)
		x.published(ctx, &out, a.ID, s, der)
	}
	out.Verdict = verdict(&out, now)
	return out, nil
}

// about finds the statement for a certificate.
func about(r *ocsp.Response, der []byte) (ocsp.SingleResponse, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return ocsp.SingleResponse{}, bulkhead.NewFault(bulkhead.KindMalformed, "the certificate cannot be read").WithHint("--cert takes PEM or DER").WithCause(err)
	}
	serial, err := bulkhead.SerialFromBig(c.SerialNumber)
	if err != nil {
		return ocsp.SingleResponse{}, err
	}
	for _, s := range r.Singles {
		if s.Serial == serial {
			return s, nil
		}
	}
	return ocsp.SingleResponse{}, bulkhead.Faultf(bulkhead.KindNotFound, "the answer says nothing of serial %s: it is about %s", serial, r.Singles[0].Serial).WithHint("leave --cert out, or take the answer to that certificate")
}

func miss(out *bulkhead.OCSPExplanation, format string, args ...any) {
	out.Missing = append(out.Missing, fmt.Sprintf(format, args...))
}

// authority finds which of ours a CertID names.
func (x *Explainer) authority(ctx context.Context, out *bulkhead.OCSPExplanation, id ocsp.CertID) (bulkhead.Authority, *x509.Certificate) {
	all, err := x.Record.Authorities(ctx)
	if err != nil {
		miss(out, "the record: it cannot be read (%s)", bulkhead.AsFault(err).Detail)
		return bulkhead.Authority{}, nil
	}
	for _, a := range all {
		cert, err := x509.ParseCertificate(a.Certificate)
		if err != nil {
			continue
		}
		names, err := ocsp.NewIssuer(cert.RawSubject, cert.RawSubjectPublicKeyInfo)
		if err == nil && names.Matches(id.Hash, id.NameHash, id.KeyHash) {
			out.Issuer = string(a.ID)
			return a, cert
		}
	}
	miss(out, "the issuer: the CertID names no authority of ours (key hash %x)", id.KeyHash)
	return bulkhead.Authority{}, nil
}

func (x *Explainer) signer(ctx context.Context, out *bulkhead.OCSPExplanation, r *ocsp.Response, a bulkhead.Authority, cert *x509.Certificate, now time.Time) {
	who := responder(r, cert)
	if who.Certificate == nil {
		miss(out, "the signer: no certificate at hand verifies the signature")
		if r.ResponderKeyHash != nil {
			out.Signer.Subject = fmt.Sprintf("a key with SHA-1 hash %x", r.ResponderKeyHash)
		}
		return
	}
	out.Signer.Subject, out.Signer.KeySHA256 = who.Certificate.Subject.String(), who.KeyHash
	if serial, err := bulkhead.SerialFromBig(who.Certificate.SerialNumber); err == nil {
		out.Signer.Serial = serial.String()
	}
	mine, err := ours(ctx, x.Record, a.ID, who, now)
	if err != nil {
		miss(out, "whether the signer is ours: the record cannot be read (%s)", bulkhead.AsFault(err).Detail)
		return
	}
	out.Signer.Ours = mine
	switch {
	case !mine:
	case x.Ledger == nil:
		miss(out, "the evidence of the signature: the watch role does not run here")
	default:
		s, ok, known, err := x.Ledger.signed(ctx, who.KeyHash, r.ProducedAt, now)
		switch {
		case err != nil:
			miss(out, "the evidence of the signature: it cannot be read (%s)", bulkhead.AsFault(err).Detail)
		case ok:
			out.Signer.Logged, out.Signer.Evidence, out.Signer.Batch = fmt.Sprintf("leaf %d", s.seq-1), s.seq, s.ref
		case known:
			out.Signer.Logged = "none"
		default:
			miss(out, "the evidence of the signature: evidence of that time has not been read (yet)")
		}
	}
}

func (x *Explainer) record(ctx context.Context, out *bulkhead.OCSPExplanation, id bulkhead.AuthorityID, s ocsp.SingleResponse) {
	ref := bulkhead.CertificateRef{Issuer: id, Serial: s.Serial}
	rows, err := x.Record.Statuses(ctx, id, []bulkhead.Serial{s.Serial})
	if err != nil {
		miss(out, "the record: it cannot be read (%s)", bulkhead.AsFault(err).Detail)
		return
	}
	if len(rows) == 0 {
		gone, err := x.Record.Pruned(ctx, ref)
		if err == nil && gone {
			miss(out, "the row: it was pruned with age")
			return
		}
		out.Record = &bulkhead.OCSPRecord{State: "never issued"}
		return
	}
	st := rows[0]
	v := &bulkhead.OCSPRecord{State: string(st.State), RevokedAt: st.RevokedAt, NotAfter: st.NotAfter, Evidence: st.Seq,
		Agrees: s.State == ocsp.Revoked && st.State == bulkhead.Revoked || s.State == ocsp.Good && st.State == bulkhead.Issued}
	out.Record = v
	if st.State == bulkhead.Revoked {
		v.Reason = st.Reason.String()
	}
	changes, err := x.Record.CertificateChanges(ctx, id, []bulkhead.Serial{s.Serial})
	if err != nil {
		miss(out, "the change: the record cannot be read (%s)", bulkhead.AsFault(err).Detail)
		return
	}
	for _, c := range changes {
		if !c.ActivatedAt.IsZero() { // the last one is the one that revoked first
			v.Change, v.ChangedBy, v.Why, v.ChangedAt, v.ChangeHead = c.Change, c.Actor, c.Why, c.ActivatedAt, c.Epoch
		}
	}
}

func (x *Explainer) published(ctx context.Context, out *bulkhead.OCSPExplanation, id bulkhead.AuthorityID, s ocsp.SingleResponse, der []byte) {
	if x.Public == nil {
		miss(out, "what is published: no origin is at hand")
		return
	}
	view, err := x.Public.Open(ctx)
	if err != nil {
		miss(out, "what is published: it cannot be read (%s)", bulkhead.AsFault(err).Detail)
		return
	}
	defer view.Close()
	is := view.Issuers[id]
	if is == nil {
		miss(out, "what is published: the head does not name %s", id)
		return
	}
	v := &bulkhead.OCSPPublic{Head: view.Head.Sequence, HeadAt: view.Head.At, Epoch: is.Head.Epoch, Generation: is.Head.Generation, Change: is.Head.Change}
	out.Published = v
	if p, ok := is.find(s.Serial); ok {
		v.Pack, v.ThisUpdate, v.Same, v.Older = p.pack.Name, p.this, bytes.Equal(p.der[s.CertID.Hash], der), s.ThisUpdate.Before(p.this)
	} else {
		miss(out, "the pack: none of the published ones holds an answer for this serial")
	}
}

// verdict is the whole in one sentence.
func verdict(out *bulkhead.OCSPExplanation, now time.Time) string {
	if !out.Signer.Ours {
		who := out.Signer.Subject
		if who == "" {
			who = "unknown"
		}
		return foreign + "; its signer is " + who
	}
	text := "ours"
	switch p := out.Published; {
	case out.Signer.Logged == "none":
		return "a key of ours signed it, and evidence has no such signature: the key is used outside the signer"
	case !now.Before(out.NextUpdate):
		text = "ours, and it has expired: whoever served it keeps answers too long"
	case p != nil && p.Same:
		text = "ours, and the one that is published now"
	case p != nil && p.Older:
		text = "ours, and older than what is published now: a cache keeps it"
	}
	if out.Record != nil && !out.Record.Agrees {
		return text + "; it says " + out.Status + ", the record says " + out.Record.State
	}
	if out.Record != nil && out.Record.Change != "" {
		text += "; revoked by change " + out.Record.Change
	}
	return text
}

// cache reads the headers of a reply: a status line, or none, and fields.
func (x *Explainer) cache(text string) *bulkhead.OCSPCache {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	h := http.Header{}
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && len(h) < 100 && name != "" && !strings.ContainsAny(name, " \t") {
			h.Add(name, strings.TrimSpace(value))
		}
	}
	v := &bulkhead.OCSPCache{Via: h.Get("Via"), ETag: h.Get("ETag")}
	at, err := http.ParseTime(h.Get("Date"))
	if err == nil {
		v.FetchedAt = at.UTC()
	}
	age, aged := seconds(h.Get("Age"))
	if aged {
		v.Age = age.String()
	}
	for part := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(part), "="); strings.ToLower(name) {
		case "no-store":
			v.MaxAge = "no-store"
			v.KeepUntil = at
		case "max-age", "s-maxage":
			if d, ok := seconds(value); ok && v.MaxAge != "no-store" {
				v.MaxAge = d.String()
				if err == nil {
					v.KeepUntil = at.Add(d - age).UTC()
				}
			}
		}
	}
	return v
}

func seconds(text string) (time.Duration, bool) {
	n, err := strconv.ParseUint(strings.Trim(text, `" `), 10, 31)
	return time.Duration(n) * time.Second, err == nil
}
