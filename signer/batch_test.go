package signer_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"bulkhead"
	"bulkhead/keys"
	"bulkhead/pki/crl"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
	"bulkhead/pki/profile"
	"bulkhead/pki/tlog"
	"bulkhead/signer"
)

func (h *house) answers(change string, serials ...bulkhead.Serial) (bulkhead.AnswerBatch, error) {
	return h.signer.SignAnswers(h.t.Context(), bulkhead.AnswerRequest{Authority: ecdsaCA, Serials: serials, Change: change,
		ThisUpdate: h.now().Add(-time.Minute), NextUpdate: h.now().Add(4 * dayTime), Object: "packs/test"})
}

func (h *house) crl(id bulkhead.AuthorityID, shard int, number int64, change string) (bulkhead.CRLRecord, []byte, error) {
	var buf bytes.Buffer
	rec, err := h.signer.SignCRL(h.t.Context(), bulkhead.CRLRequest{Authority: id, Shard: shard, Number: number, Change: change,
		ThisUpdate: h.now().Add(-time.Minute), NextUpdate: h.now().Add(7 * dayTime), Object: "crls/test"}, &buf)
	return rec, buf.Bytes(), err
}

// change stores a change in a state.
func (h *house) change(id string, state bulkhead.ChangeState, items ...bulkhead.ChangeItem) {
	ok(h.t, h.store.CreateChange(h.t.Context(), bulkhead.Change{ID: id, State: state, Actor: "operator:a", CreatedAt: h.now()}, items))
}

func item(c bulkhead.IssuedCertificate, reason bulkhead.Reason, at time.Time) bulkhead.ChangeItem {
	return bulkhead.ChangeItem{CertificateRef: c.Certificate.CertificateRef, Reason: reason, RevokedAt: at.UTC().Truncate(time.Second)}
}

// said is what the answer for a serial says, after checking it as a client would.
func said(t *testing.T, h *house, b bulkhead.AnswerBatch, serial bulkhead.Serial) *answer {
	t.Helper()
	for _, a := range b.Answers {
		if a.Status.Serial != serial {
			continue
		}
		responder := parse(t, b.Responder)
		for tbs, signature := range map[string][]byte{string(a.TBS): a.Signature, string(a.TBS256): a.Signature256} {
			sum := sha256.Sum256([]byte(tbs))
			if !ecdsa.VerifyASN1(responder.PublicKey.(*ecdsa.PublicKey), sum[:], signature) {
				t.Fatal("the answer's signature does not verify")
			}
		}
		return &answer{a.Status, ocsp.Assemble(a.TBS, a.Signature, b.Responder)}
	}
	t.Fatalf("no answer for %s", serial)
	return nil
}

type answer struct {
	bulkhead.Status
	der []byte
}

func TestAnswersFollowTheRecord(t *testing.T) {
	h := newHouse(t)
	one, two := h.issue("a.example.test"), h.issue("b.example.test")
	token, err := h.signer.Prepare(t.Context(), h.request("c.example.test"))
	ok(t, err)
	reserved, never := token.Certificate().Serial, h.serial()
	s1, s2 := one.Certificate.Serial, two.Certificate.Serial
	b, err := h.answers("", s1, never, s2, reserved)
	ok(t, err)
	if len(b.Answers) != 2 || len(b.Missing) != 2 || b.Missing[0] != never || b.Missing[1] != reserved {
		t.Fatalf("%d answers, missing %v", len(b.Answers), b.Missing)
	}
	opensslOCSP(t, h, one, said(t, h, b, s1).der, "good")
	keyUse := h.audit()
	if got := keyUse[bulkhead.Digest(parse(t, b.Responder).RawSubjectPublicKeyInfo)]; got.Batches != 1 || got.BatchSignatures != 4 || got.Open != 0 {
		t.Errorf("evidence counts %+v for the delegate", got)
	}
	checkRoot(t, h, b)

	// Nothing but unknown serials: nothing is signed and nothing announced.
	n := h.count(bulkhead.EvBatchIntent)
	b, err = h.answers("", never)
	ok(t, err)
	if len(b.Answers) != 0 || len(b.Missing) != 1 || h.count(bulkhead.EvBatchIntent) != n {
		t.Errorf("an unassigned serial led to %d answers", len(b.Answers))
	}
}

// checkRoot proves each answer in its batch's intent.
func checkRoot(t *testing.T, h *house, b bulkhead.AnswerBatch) {
	t.Helper()
	var digests []bulkhead.Hash
	for _, a := range b.Answers {
		digests = append(digests, bulkhead.Digest(a.TBS), bulkhead.Digest(a.TBS256))
	}
	for _, e := range h.leaves() {
		if e.Kind == bulkhead.EvBatchIntent && e.Ref == b.ID {
			if e.Digest != tlog.BatchRoot(digests) || e.Count != int64(len(digests)) {
				t.Error("the batch's intent is not over the answers")
			}
			return
		}
	}
	t.Error("the batch has no intent")
}

func opensslOCSP(t *testing.T, h *house, c bulkhead.IssuedCertificate, response []byte, want string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, data, 0o600))
		return path
	}
	cert := func(name string, der []byte) string {
		return write(name, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	out, err := exec.Command("openssl", "ocsp", "-issuer", cert("issuer", c.Chain[0]), "-cert", cert("leaf", c.DER), "-CAfile", cert("root", h.root.Raw),
		"-respin", write("response", response), "-no_nonce").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("Response verify OK")) || !bytes.Contains(out, []byte(": "+want)) {
		t.Fatalf("openssl ocsp: %v: %s", err, out)
	}
}

func TestChangeIsLaidOver(t *testing.T) {
	h := newHouse(t)
	one, two, three := h.issue("a.example.test"), h.issue("b.example.test"), h.issue("c.example.test")
	at := h.now().Add(-time.Minute)
	h.change("planned", bulkhead.ChangePlanned, item(one, bulkhead.Superseded, at))
	h.change("approved", bulkhead.ChangeApproved, item(one, bulkhead.KeyCompromise, at), item(two, bulkhead.Unspecified, at))
	h.change("published", bulkhead.ChangePublished, item(one, bulkhead.Superseded, at))
	serials := []bulkhead.Serial{one.Certificate.Serial, two.Certificate.Serial, three.Certificate.Serial}
	for _, id := range []string{"planned", "published"} {
		_, err := h.answers(id, serials...)
		wantKind(t, err, bulkhead.KindConflict, "not approved")
		_, _, err = h.crl(ecdsaCA, 0, 1, id)
		wantKind(t, err, bulkhead.KindConflict, "not approved")
	}
	_, err := h.answers("unheard-of", serials...)
	wantKind(t, err, bulkhead.KindNotFound, "")
	b, err := h.answers("approved", serials...)
	ok(t, err)
	opensslOCSP(t, h, one, said(t, h, b, serials[0]).der, "revoked")
	opensslOCSP(t, h, two, said(t, h, b, serials[1]).der, "revoked")
	opensslOCSP(t, h, three, said(t, h, b, serials[2]).der, "good")
	if got := said(t, h, b, serials[0]).Status; got.Reason != bulkhead.KeyCompromise || !got.RevokedAt.Equal(at.Truncate(time.Second)) {
		t.Errorf("the change said %+v", got)
	}
	b, err = h.answers("", serials...)
	ok(t, err)
	opensslOCSP(t, h, one, said(t, h, b, serials[0]).der, "good") // nothing is public before activation
	entries := map[bulkhead.Serial]crl.Entry{}
	for shard := range 4 {
		_, der, err := h.crl(ecdsaCA, shard, 1, "approved")
		ok(t, err)
		_, err = crl.Parse(der, func(e crl.Entry) error { entries[e.Serial] = e; return nil })
		ok(t, err)
	}
	if len(entries) != 2 || entries[serials[0]].Reason != bulkhead.KeyCompromise {
		t.Errorf("the CRLs of the change hold %v", entries)
	}
	h.audit()
}

// revoke activates a change as the status service does.
func (h *house) revoke(id string, items ...bulkhead.ChangeItem) {
	h.t.Helper()
	h.change(id, bulkhead.ChangeStaged, items...)
	head, err := h.store.Head(h.t.Context())
	ok(h.t, err)
	ok(h.t, h.store.Activate(h.t.Context(), bulkhead.Change{ID: id, Actor: "operator:a", ActivatedAt: h.now()},
		bulkhead.HeadRecord{Sequence: head.Sequence + 1, Body: []byte("head"), At: h.now()}, nil))
}

func TestCRLKeepsEntriesPastExpiry(t *testing.T) {
	h := newHouse(t)
	h.makeAuthority(rsaCA, bulkhead.IssuingAuthority, keys.RSA2048)
	for _, id := range []bulkhead.AuthorityID{ecdsaCA, rsaCA} {
		req := h.request("a.example.test")
		req.Authority, req.Profile = id, "tls-server-short"
		c, err := h.signer.Issue(t.Context(), req)
		ok(t, err)
		h.revoke("revoke-"+string(id), item(c, bulkhead.Superseded, h.now()))
		has := func(number int64) bool {
			rec, der, err := h.crl(id, c.Certificate.Shard, number, "")
			ok(t, err)
			parsed, err := x509.ParseRevocationList(der)
			ok(t, err)
			ok(t, parsed.CheckSignatureFrom(h.certs[id]))
			if rec.Digest != bulkhead.Digest(der) || rec.Entries != len(parsed.RevokedCertificateEntries) {
				t.Errorf("record %+v is not of this CRL", rec)
			}
			return rec.Entries == 1
		}
		if !has(1) {
			t.Errorf("%s: the revoked certificate is not on the CRL", id)
		}
		opensslCRL(t, h, c, 2)
		start := h.shift.Load()
		h.move(10 * dayTime) // ended 4 days ago
		if !has(3) {
			t.Errorf("%s: the entry went before a CRL past expiry had it", id)
		}
		h.move(5 * dayTime)
		if has(4) {
			t.Errorf("%s: the entry is still there 9 days after expiry", id)
		}
		_, _, err = h.crl(id, c.Certificate.Shard, 4, "")
		wantKind(t, err, bulkhead.KindConflict, "number")
		h.shift.Store(start)
	}
	_, err := h.signer.SignCRL(t.Context(), bulkhead.CRLRequest{Authority: ecdsaCA, Number: 90, ThisUpdate: h.now(), NextUpdate: h.now().Add(11 * dayTime)}, io.Discard)
	wantKind(t, err, bulkhead.KindGate, "lint") // subscriber CRLs last 10 days at most (BR 7.2)
	_, _, err = h.crl(ecdsaCA, 9, 1, "")
	wantKind(t, err, bulkhead.KindMalformed, "shard")
	_, _, err = h.crl(rootCA, 0, 1, "")
	wantKind(t, err, bulkhead.KindUnavailable, "offline")
	if got := h.audit()[h.signerHash(rsaCA)]; got.Batches != 4 || got.Certificates != 1 || got.Open != 0 {
		t.Errorf("evidence counts %+v for the RSA key", got)
	}
}

// opensslCRL wants openssl to refuse a revoked certificate by the CRL of its shard.
func opensslCRL(t *testing.T, h *house, c bulkhead.IssuedCertificate, number int64) {
	t.Helper()
	_, der, err := h.crl(c.Certificate.Issuer, c.Certificate.Shard, number, "")
	ok(t, err)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		ok(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	out, err := exec.Command("openssl", "verify", "-crl_check", "-partial_chain", "-CAfile", write("issuer", "CERTIFICATE", c.Chain[0]),
		"-CRLfile", write("crl", "X509 CRL", der), write("leaf", "CERTIFICATE", c.DER)).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("certificate revoked")) {
		t.Fatalf("openssl verify -crl_check: %v: %s", err, out)
	}
}

func TestAnswerRequestsRefused(t *testing.T) {
	h := newHouse(t)
	c := h.issue("a.example.test").Certificate.Serial
	_, err := h.answers("")
	wantKind(t, err, bulkhead.KindMalformed, "batch")
	_, err = h.answers("", c, c)
	wantKind(t, err, bulkhead.KindMalformed, "twice")
	req := bulkhead.AnswerRequest{Authority: ecdsaCA, Serials: []bulkhead.Serial{c}, ThisUpdate: h.now().Add(time.Hour), NextUpdate: h.now().Add(2 * time.Hour)}
	_, err = h.signer.SignAnswers(t.Context(), req)
	wantKind(t, err, bulkhead.KindMalformed, "future")
	req.ThisUpdate, req.NextUpdate = h.now().Add(-2*time.Hour), h.now().Add(-time.Hour)
	_, err = h.signer.SignAnswers(t.Context(), req)
	wantKind(t, err, bulkhead.KindConflict, "over")
	req.Authority = rootCA
	req.NextUpdate = h.now().Add(time.Hour)
	_, err = h.signer.SignAnswers(t.Context(), req)
	wantKind(t, err, bulkhead.KindUnavailable, "offline")
	revoked := mustAuthority(t, h, ecdsaCA)
	revoked.State = bulkhead.AuthorityDestroyed
	ok(t, h.store.PutAuthority(t.Context(), revoked))
	_, err = h.signer.SignCRL(t.Context(), bulkhead.CRLRequest{Authority: ecdsaCA, Number: 1, ThisUpdate: h.now(), NextUpdate: h.now().Add(time.Hour), Object: "crl"}, io.Discard)
	wantKind(t, err, bulkhead.KindUnavailable, "destroyed")
	if n := h.count(bulkhead.EvBatchIntent); n != 0 {
		t.Errorf("refused requests left %d intents", n)
	}
}

func TestDelegateLife(t *testing.T) {
	h := newHouse(t)
	c := h.issue("a.example.test")
	first, err := h.signer.EnsureDelegate(t.Context(), ecdsaCA)
	ok(t, err)
	again, err := h.signer.EnsureDelegate(t.Context(), ecdsaCA)
	ok(t, err)
	if again.KeyURI != first.KeyURI {
		t.Error("a delegate was made although one was there")
	}
	h.move(8 * dayTime) // past half
	second, err := h.signer.EnsureDelegate(t.Context(), ecdsaCA)
	ok(t, err)
	if second.KeyURI == first.KeyURI {
		t.Fatal("the delegate was not renewed at half of its validity")
	}
	_, err = h.ring.Open(t.Context(), first.KeyURI)
	ok(t, err) // its answers are still out

	// Retired authorities go on answering; nextUpdate never passes the delegate's end.
	a := mustAuthority(t, h, ecdsaCA)
	a.State = bulkhead.AuthorityRetired
	ok(t, h.store.PutAuthority(t.Context(), a))
	b, err := h.signer.SignAnswers(t.Context(), bulkhead.AnswerRequest{Authority: ecdsaCA, Serials: []bulkhead.Serial{c.Certificate.Serial},
		ThisUpdate: h.now(), NextUpdate: h.now().Add(60 * dayTime)})
	ok(t, err)
	if end := parse(t, b.Responder).NotAfter; !b.NextUpdate.Equal(end) {
		t.Errorf("nextUpdate %s, the delegate ends at %s", b.NextUpdate, end)
	}
	h.move(7 * dayTime) // the first has ended
	_, err = h.signer.EnsureDelegate(t.Context(), ecdsaCA)
	ok(t, err)
	_, err = h.ring.Open(t.Context(), first.KeyURI)
	if bulkhead.KindOf(err) != bulkhead.KindNotFound {
		t.Errorf("the key of an ended delegate is still there: %v", err)
	}
	all, err := h.store.Delegates(t.Context(), ecdsaCA)
	ok(t, err)
	for _, d := range all {
		if d.KeyURI == first.KeyURI {
			t.Error("an ended delegate is still in the record")
		}
	}
	h.audit()
}

// TestDelegateMustBeOne: a certificate by the right key that is no delegate (BR 7.1.2.8) is never used, and an imported
// one for an offline authority is.
func TestDelegateMustBeOne(t *testing.T) {
	h := newHouse(t)
	a := h.makeAuthority("offline", bulkhead.IssuingAuthority, keys.P256)
	key, err := h.ring.Open(t.Context(), a.KeyURI)
	ok(t, err)
	a.KeyURI = ""
	ok(t, h.store.PutAuthority(t.Context(), a))
	uri, delegateKey, err := h.ring.Generate(t.Context(), "imported", keys.P256)
	ok(t, err)
	issuer := h.certs["offline"]
	tmpl, err := profile.OCSPDelegate(profile.House{Subject: pkix.Name{CommonName: "Imported"}, PublicKey: delegateKey.Public(), Serial: h.serial(),
		Now: h.now(), Validity: 300 * dayTime, Backdate: time.Hour, Parent: issuer, ParentID: "offline", URLs: urls})
	ok(t, err)
	put := func(tmpl *x509.Certificate) {
		der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, delegateKey.Public(), key)
		ok(t, err)
		ok(t, h.store.PutDelegate(t.Context(), bulkhead.Delegate{Authority: "offline", Certificate: der, KeyURI: uri, NotBefore: tmpl.NotBefore, NotAfter: tmpl.NotAfter}))
	}
	wrong := *tmpl
	wrong.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning, x509.ExtKeyUsageServerAuth}
	put(&wrong)
	_, err = h.signer.EnsureDelegate(t.Context(), "offline")
	wantKind(t, err, bulkhead.KindUnavailable, "offline")
	ok(t, h.store.DropDelegate(t.Context(), "offline", uri))
	put(tmpl)
	d, err := h.signer.EnsureDelegate(t.Context(), "offline")
	ok(t, err)
	if d.KeyURI != uri {
		t.Errorf("delegate %s, want the imported one", d.KeyURI)
	}
	// Its key blocked: never used again.
	ok(t, h.store.BlockKey(t.Context(), bulkhead.BlockedKey{KeyHash: keyHash(t, delegateKey.Public()), BlockedAt: h.now(), Reason: "stolen"}))
	_, err = h.signer.EnsureDelegate(t.Context(), "offline")
	wantKind(t, err, bulkhead.KindUnavailable, "offline")
}

// TestBatchEvidenceLost: when intent or outcome cannot be written, no signature leaves.
func TestBatchEvidenceLost(t *testing.T) {
	h := newHouse(t)
	c := h.issue("a.example.test").Certificate.Serial
	_, err := h.signer.EnsureDelegate(t.Context(), ecdsaCA)
	ok(t, err)
	for fail := 1; fail <= 2; fail++ {
		for name, sign := range map[string]func() (int, error){
			"answers": func() (int, error) { b, err := h.answers("", c); return len(b.Answers), err },
			"crl":     func() (int, error) { _, der, err := h.crl(ecdsaCA, 0, int64(fail), ""); return len(der), err },
			"head":    func() (int, error) { p, err := h.signer.SignHead(t.Context(), headBody(t, 1)); return len(p), err },
		} {
			n := 0
			h.onCommit(func(_ string, commit func() error) error {
				if n++; n == fail {
					return errLost
				}
				return commit()
			})
			left, err := sign()
			wantKind(t, err, bulkhead.KindUnavailable, "durable")
			if left != 0 {
				t.Errorf("%s: %d octets or answers left with an error", name, left)
			}
			h.onCommit(nil)
		}
	}
	h.audit()
}

func headBody(t *testing.T, sequence uint64) []byte {
	body, err := (&pack.Head{Origin: headName, Sequence: sequence, At: time.Now()}).Body()
	ok(t, err)
	return body
}

func TestSignHead(t *testing.T) {
	h := newHouse(t)
	key, err := h.ring.Open(t.Context(), h.head)
	ok(t, err)
	signed, err := h.signer.SignHead(t.Context(), headBody(t, 1))
	ok(t, err)
	v, err := signer.HeadVerifier(headName, key.Public())
	ok(t, err)
	head, err := pack.OpenHead(signed, v)
	ok(t, err)
	if head.Sequence != 1 {
		t.Errorf("sequence %d", head.Sequence)
	}
	ok(t, h.store.PutHead(t.Context(), bulkhead.HeadRecord{Sequence: 1, Body: signed, At: h.now()}, nil))
	_, err = h.signer.SignHead(t.Context(), headBody(t, 1))
	wantKind(t, err, bulkhead.KindConflict, "above")
	_, err = h.signer.SignHead(t.Context(), []byte("hello\n"))
	wantKind(t, err, bulkhead.KindMalformed, "head")
	foreign, err := (&pack.Head{Origin: "other.test/head", Sequence: 2, At: time.Now()}).Body()
	ok(t, err)
	_, err = h.signer.SignHead(t.Context(), foreign)
	wantKind(t, err, bulkhead.KindMalformed, "origin")
	if got := h.audit()[keyHash(t, key.Public())]; got.BatchSignatures != 1 || got.Open != 0 {
		t.Errorf("evidence counts %+v for the head key", got)
	}
}
