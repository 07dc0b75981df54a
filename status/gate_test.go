package status_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"io"
	"slices"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/pki/crl"
	"bulkhead/pki/pack"
)

// forge signs a CRL as the authority itself would, with other entries: what a signer that lies puts out.
func (h *house) forge(req *bulkhead.CRLRequest, call func(io.Writer) (bulkhead.CRLRecord, error), w io.Writer, change func(map[bulkhead.Serial]crl.Entry)) (bulkhead.CRLRecord, error) {
	var buf bytes.Buffer
	rec, err := call(&buf)
	if err != nil {
		return rec, err
	}
	entries := map[bulkhead.Serial]crl.Entry{}
	_, err = crl.Parse(buf.Bytes(), func(e crl.Entry) error { entries[e.Serial] = e; return nil })
	ok(h.t, err)
	change(entries)
	a := h.authority(req.Authority)
	key, err := h.ring.Open(context.Background(), a.KeyURI)
	ok(h.t, err)
	cert, err := x509.ParseCertificate(a.Certificate)
	ok(h.t, err)
	list := &x509.RevocationList{Number: bulkhead.Serial{}.Big().SetInt64(rec.Number), ThisUpdate: rec.ThisUpdate, NextUpdate: rec.NextUpdate}
	for _, e := range entries {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: e.Serial.Big(), RevocationTime: e.RevokedAt, ReasonCode: int(e.Reason)})
	}
	slices.SortFunc(list.RevokedCertificateEntries, func(x, y x509.RevocationListEntry) int { return x.SerialNumber.Cmp(y.SerialNumber) })
	der, err := x509.CreateRevocationList(rand.Reader, list, cert, key)
	ok(h.t, err)
	rec.Digest, rec.Entries = bulkhead.Digest(der), len(entries)
	_, err = w.Write(der)
	return rec, err
}

// TestGates plants one fault behind the signer's door for each gate. Each time the change stays unpublished, the
// certificate stays good, and the same change goes through once the fault is gone.
func TestGates(t *testing.T) {
	t.Parallel()
	type crlFault = func(map[bulkhead.Serial]crl.Entry)
	h := newHouse(t)
	refs := h.issue(caA, 80)
	inShard := func(shard int) (list []bulkhead.CertificateRef) {
		for _, r := range refs {
			if row, _, err := h.store.Certificate(t.Context(), r); err == nil && row.Shard == shard {
				list = append(list, r)
			}
		}
		return list
	}
	zero, one := inShard(0), inShard(1)
	old, bystander, foreign := zero[0], zero[1], one[0]
	targets := zero[2:]
	h.revoke(old)
	h.move(time.Minute)
	entry := func(r bulkhead.CertificateRef) crl.Entry {
		return crl.Entry{Serial: r.Serial, RevokedAt: h.now(), Reason: bulkhead.Superseded}
	}
	good := func(answers []bulkhead.SignedAnswer, _ bulkhead.CertificateRef) []bulkhead.SignedAnswer {
		b, err := h.signer.SignAnswers(context.Background(), bulkhead.AnswerRequest{Authority: caA, Serials: []bulkhead.Serial{bystander.Serial},
			ThisUpdate: h.now().Add(-time.Minute), NextUpdate: h.now().Add(day)})
		ok(t, err)
		answers[0].TBS, answers[0].Signature = b.Answers[0].TBS, b.Answers[0].Signature
		return answers
	}
	for i, c := range []struct {
		name    string
		crl     func(target bulkhead.CertificateRef) crlFault
		answers func(a []bulkhead.SignedAnswer, target bulkhead.CertificateRef) []bulkhead.SignedAnswer
		head    func(*pack.Head)
		word    string
	}{
		{name: "CRL lists a bystander", word: "lists", crl: func(bulkhead.CertificateRef) crlFault {
			return func(e map[bulkhead.Serial]crl.Entry) { e[bystander.Serial] = entry(bystander) }
		}},
		{name: "CRL lists a serial that was never issued", word: "lists", crl: func(bulkhead.CertificateRef) crlFault {
			r := h.row(caA)
			return func(e map[bulkhead.Serial]crl.Entry) { e[r.Serial] = entry(r.CertificateRef) }
		}},
		{name: "CRL lists a certificate of another shard", word: "lists", crl: func(bulkhead.CertificateRef) crlFault {
			return func(e map[bulkhead.Serial]crl.Entry) { e[foreign.Serial] = entry(foreign) }
		}},
		{name: "CRL drops an entry", word: "drops", crl: func(bulkhead.CertificateRef) crlFault {
			return func(e map[bulkhead.Serial]crl.Entry) { delete(e, old.Serial) }
		}},
		{name: "CRL leaves the item out", word: "does not list", crl: func(t bulkhead.CertificateRef) crlFault {
			return func(e map[bulkhead.Serial]crl.Entry) { delete(e, t.Serial) }
		}},
		{name: "CRL gives the item another reason", word: "keyCompromise", crl: func(t bulkhead.CertificateRef) crlFault {
			return func(e map[bulkhead.Serial]crl.Entry) {
				x := e[t.Serial]
				x.Reason = bulkhead.KeyCompromise
				e[t.Serial] = x
			}
		}},
		{name: "CRL moves the date of another entry", word: "the record and the approved change", crl: func(bulkhead.CertificateRef) crlFault {
			return func(e map[bulkhead.Serial]crl.Entry) {
				x := e[old.Serial]
				x.RevokedAt = x.RevokedAt.Add(-time.Hour)
				e[old.Serial] = x
			}
		}},
		{name: "answer says good", word: "does not say", answers: func(a []bulkhead.SignedAnswer, target bulkhead.CertificateRef) []bulkhead.SignedAnswer {
			b, err := h.signer.SignAnswers(context.Background(), bulkhead.AnswerRequest{Authority: caA, Serials: []bulkhead.Serial{target.Serial},
				ThisUpdate: h.now().Add(-time.Minute), NextUpdate: h.now().Add(day)})
			ok(t, err)
			a[0].TBS256, a[0].Signature256 = b.Answers[0].TBS256, b.Answers[0].Signature256
			return a
		}},
		{name: "answer says good and admits it", word: "says issued", answers: func(_ []bulkhead.SignedAnswer, target bulkhead.CertificateRef) []bulkhead.SignedAnswer {
			b, err := h.signer.SignAnswers(context.Background(), bulkhead.AnswerRequest{Authority: caA, Serials: []bulkhead.Serial{target.Serial},
				ThisUpdate: h.now().Add(-time.Minute), NextUpdate: h.now().Add(day)})
			ok(t, err)
			return b.Answers
		}},
		{name: "answer is about another certificate", word: "", answers: good},
		{name: "answer for another certificate", word: "is about", answers: func(a []bulkhead.SignedAnswer, _ bulkhead.CertificateRef) []bulkhead.SignedAnswer {
			a[0].Status.Serial = bystander.Serial
			return a
		}},
		{name: "no answer", word: "0 answers", answers: func([]bulkhead.SignedAnswer, bulkhead.CertificateRef) []bulkhead.SignedAnswer { return nil }},
		{name: "signature broken", word: "", answers: func(a []bulkhead.SignedAnswer, _ bulkhead.CertificateRef) []bulkhead.SignedAnswer {
			a[0].Signature = bytes.Clone(a[0].Signature256)
			return a
		}},
		{name: "date differs from the approved one", word: "the approved change says", answers: func(a []bulkhead.SignedAnswer, _ bulkhead.CertificateRef) []bulkhead.SignedAnswer {
			a[0].Status.RevokedAt = a[0].Status.RevokedAt.Add(-time.Hour)
			return a
		}},
		{name: "head of another sequence", word: "", head: func(x *pack.Head) { x.Sequence-- }},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := targets[i]
			change, err := h.status.PlanRevocation(t.Context(), "test", c.name, items(bulkhead.Superseded, target))
			ok(t, err)
			ok(t, h.status.Approve(t.Context(), change.ID, change.PreviewHash, "test"))
			before := h.head()
			plantFaults(h, c.crl, c.answers, c.head, target)
			err = h.status.Activate(t.Context(), change.ID)
			*h.door = door{Signer: h.signer}
			if err == nil {
				t.Fatal("the fault went public")
			}
			if c.word != "" {
				wantKind(t, err, bulkhead.KindGate, c.word)
			}
			if h.head().Sequence != before.Sequence || h.state(target) != bulkhead.Issued {
				t.Errorf("head %d after %d, certificate %s", h.head().Sequence, before.Sequence, h.state(target))
			}
			h.agree()
			ok(t, h.status.Activate(t.Context(), change.ID)) // without the fault the gate is silent
			if h.state(target) != bulkhead.Revoked || h.change(change.ID).State != bulkhead.ChangeSettled {
				t.Errorf("certificate %s, change %s", h.state(target), h.change(change.ID).State)
			}
			h.agree()
		})
	}
}

func plantFaults(h *house, list func(bulkhead.CertificateRef) func(map[bulkhead.Serial]crl.Entry),
	answers func([]bulkhead.SignedAnswer, bulkhead.CertificateRef) []bulkhead.SignedAnswer, head func(*pack.Head), target bulkhead.CertificateRef) {
	if list != nil {
		h.door.crl = func(req *bulkhead.CRLRequest, call func(io.Writer) (bulkhead.CRLRecord, error), w io.Writer) (bulkhead.CRLRecord, error) {
			return h.forge(req, call, w, list(target))
		}
	}
	if answers != nil {
		h.door.answers = func(_ *bulkhead.AnswerRequest, call func() (bulkhead.AnswerBatch, error)) (bulkhead.AnswerBatch, error) {
			b, err := call()
			if err == nil {
				b.Answers = answers(b.Answers, target)
			}
			return b, err
		}
	}
	if head != nil {
		h.door.head = func(body []byte) []byte {
			x, err := pack.ParseHeadBody(body)
			ok(h.t, err)
			head(x)
			out, err := x.Body()
			ok(h.t, err)
			return out
		}
	}
}

// TestRestoredRecord: a record older than what is public takes nothing back. Check says so.
func TestRestoredRecord(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	refs := h.issue(caA, 1)
	older, err := h.dir.Head(t.Context())
	ok(t, err)
	h.revoke(refs[0])
	newest, err := h.dir.Head(t.Context())
	ok(t, err)
	// An older head in public is replaced by the record's at the next look.
	ok(t, h.dir.SetHead(t.Context(), older))
	h.tick()
	h.agree()
	// A public head that the record does not know is not replaced.
	x, err := pack.OpenHead(newest, h.verifier)
	ok(t, err)
	x.Sequence += 5
	body, err := x.Body()
	ok(t, err)
	ahead, err := h.signer.SignHead(t.Context(), body)
	ok(t, err)
	ok(t, h.dir.SetHead(t.Context(), ahead))
	wantKind(t, h.status.Tick(t.Context()), bulkhead.KindConflict, "is public")
	if got, _ := h.dir.Head(t.Context()); !bytes.Equal(got, ahead) {
		t.Error("the public head was taken back")
	}
	if found := h.check(); len(found) != 1 || found[0].Rule != "head" {
		t.Errorf("check says %v", found)
	}
	// What is no head at all is repaired.
	ok(t, h.dir.SetHead(t.Context(), []byte("garbage")))
	if found := h.check(); len(found) != 1 || found[0].Rule != "head" {
		t.Errorf("check says %v", found)
	}
	h.tick()
	h.agree()
}
