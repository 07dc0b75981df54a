package status_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"bulkhead"
	"bulkhead/edge"
	"bulkhead/pki/crl"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

// said is what the world sees of one certificate.
type said struct {
	ocsp   [2]string // by the SHA-1 and the SHA-256 CertID: "good", "revoked REASON TIME", or the error
	listed string    // "" or "REASON TIME"
}

// world asks a real edge.
type world struct {
	h    *house
	edge *edge.Edge
}

func (h *house) world() *world {
	h.t.Helper()
	e, err := edge.New(edge.Config{Source: h.dir, HeadVerifier: h.verifier, Log: slog.New(slog.DiscardHandler), Now: h.now})
	ok(h.t, err)
	return &world{h, e}
}

// refresh lets the edge see the newest head.
func (w *world) refresh() { w.h.t.Helper(); ok(w.h.t, w.edge.Refresh(context.Background())) }

// ask asks by each hash; the answer is judged as a relying party would.
func (w *world) ask(ref bulkhead.CertificateRef) (out said) {
	w.h.t.Helper()
	a := w.h.authority(ref.Issuer)
	issuer, err := x509.ParseCertificate(a.Certificate)
	ok(w.h.t, err)
	id, err := ocsp.NewIssuer(a.Subject, a.SPKI)
	ok(w.h.t, err)
	for i, hash := range []ocsp.HashAlgorithm{ocsp.SHA1, ocsp.SHA256} {
		req, err := ocsp.EncodeRequest([]ocsp.CertID{id.CertID(hash, ref.Serial)}, nil)
		ok(w.h.t, err)
		rec := httptest.NewRecorder()
		w.edge.Handler().ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/ocsp", bytes.NewReader(req)))
		body, err := io.ReadAll(rec.Body)
		ok(w.h.t, err)
		r, err := ocsp.ParseResponse(body)
		ok(w.h.t, err)
		if r.Status != 0 {
			out.ocsp[i] = r.Status.String()
			continue
		}
		got, err := ocsp.CheckResponse(r, issuer, ref.Serial, w.h.now())
		ok(w.h.t, err)
		out.ocsp[i] = got.State.String()
		if got.State == ocsp.Revoked {
			out.ocsp[i] += " " + got.Reason.String() + " " + got.RevokedAt.UTC().Format(time.RFC3339)
		}
	}
	if e, is := w.h.listed(ref.Issuer)[ref.Serial]; is {
		out.listed = e.Reason.String() + " " + e.RevokedAt.UTC().Format(time.RFC3339)
	}
	return out
}

// head is the public head.
func (h *house) head() *pack.Head {
	h.t.Helper()
	signed, err := h.dir.Head(context.Background())
	ok(h.t, err)
	head, err := pack.OpenHead(signed, h.verifier)
	ok(h.t, err)
	return head
}

// listed is what all public CRLs of an authority list.
func (h *house) listed(id bulkhead.AuthorityID) map[bulkhead.Serial]crl.Entry {
	h.t.Helper()
	all := map[bulkhead.Serial]crl.Entry{}
	for _, ref := range h.head().Issuer(id).CRLs {
		der, err := h.dir.Get(context.Background(), ref.Name)
		ok(h.t, err)
		_, err = crl.Parse(der, func(e crl.Entry) error { all[e.Serial] = e; return nil })
		ok(h.t, err)
	}
	return all
}

// packs opens the packs of an authority, the newest first.
func (h *house) packs(id bulkhead.AuthorityID) []*pack.Pack {
	h.t.Helper()
	var all []*pack.Pack
	for _, ref := range h.head().Issuer(id).Packs {
		body, err := h.dir.Get(context.Background(), ref.Name)
		ok(h.t, err)
		p, err := pack.Open(body)
		ok(h.t, err)
		all = append(all, p)
	}
	return all
}

// answer is the newest entry for a certificate.
func (h *house) answer(ref bulkhead.CertificateRef) (e pack.Entry, found bool) {
	h.t.Helper()
	for _, p := range h.packs(ref.Issuer) {
		ok(h.t, p.Each(func(x pack.Entry) error {
			if x.Serial == ref.Serial && !found {
				e, found = x, true
			}
			return nil
		}))
	}
	return e, found
}
