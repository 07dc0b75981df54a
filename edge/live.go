package edge

import (
	"context"
	"runtime"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

// Live signs answers to single requests with keys that are not the edge's. Both methods are safe for concurrent use.
type Live interface {
	// Issuer says whose certificate a CertID names, under any hash; false when no live answers are given for it.
	Issuer(id *ocsp.CertID) (bulkhead.AuthorityID, bool)
	// Answer signs one response about certificates of one issuer, with the nonce as it came (nil for none). KindRateLimited
	// when there is too much to sign, KindUnavailable when nothing can be signed now.
	Answer(ctx context.Context, id bulkhead.AuthorityID, statements []ocsp.Statement, nonce []byte) ([]byte, error)
}

// unknownFor is how far to either side of now a signed "unknown" reaches: long enough for clocks that differ, short
// because the serial may be issued any moment.
const unknownFor = 5 * time.Minute

// wantsLive reports whether a request is well formed, asks for what pre-signed answers cannot give, and of one issuer
// that has live answers.
func (e *Edge) wantsLive(der []byte) bool {
	req, err := ocsp.ParseRequest(der, e.cfg.MaxCertIDs)
	if err != nil {
		return false
	}
	if h := req.CertIDs[0].Hash; !req.HasNonce && len(req.CertIDs) == 1 && (h == ocsp.SHA1 || h == ocsp.SHA256) {
		return false // signed, or with something critical that is known
	}
	_, ok := e.liveIssuer(req)
	return ok
}

// liveIssuer is the one issuer of all CertIDs: a response has one signer, and a delegate speaks for one issuer.
func (e *Edge) liveIssuer(req *ocsp.Request) (bulkhead.AuthorityID, bool) {
	id, ok := e.cfg.Live.Issuer(&req.CertIDs[0])
	for i := 1; ok && i < len(req.CertIDs); i++ {
		var other bulkhead.AuthorityID
		other, ok = e.cfg.Live.Issuer(&req.CertIDs[i])
		ok = ok && other == id
	}
	return id, ok
}

// askLive has the request in s.in answered for itself; with outLive the response is in s.out. What it cannot do is
// left to the pre-signed answers: an edge whose signer is away goes on answering (P8). observe is off when the
// sighting was passed on already.
func (e *Edge) askLive(ctx context.Context, ep *epoch, s *scratch, now time.Time, observe bool) outcome {
	if ep == nil {
		return outNoHead
	}
	req, err := ocsp.ParseRequest(s.in, e.cfg.MaxCertIDs)
	if err != nil {
		return outMalformed
	}
	id, ok := e.liveIssuer(req)
	i := ep.byID(id)
	if !ok || i == nil {
		return outUnassigned // pre-signed answers only, and there was none
	}
	statements := make([]ocsp.Statement, len(req.CertIDs))
	for n, c := range req.CertIDs {
		statements[n], ok = i.say(c, now)
		if !ok {
			return outExpired
		}
		if statements[n].State == ocsp.Unknown && observe {
			e.sight(id, c.Serial, now)
		}
	}
	der, err := e.cfg.Live.Answer(ctx, id, statements, req.Nonce)
	runtime.KeepAlive(ep)
	if err == nil {
		s.out = append(s.out[:0], der...)
		return outLive
	}
	switch kind := bulkhead.KindOf(err); {
	case kind == bulkhead.KindUnavailable && len(req.CertIDs) == 1 && statements[0].State != ocsp.Unknown:
		if out := e.askPacks(ep, s, s.in, now, ocsp.ParseOne(s.in, &s.one), false); out == outGood || out == outRevoked {
			return out
		}
		return outBusy
	case kind == bulkhead.KindUnavailable || kind == bulkhead.KindRateLimited:
		return outBusy
	default:
		e.cfg.Log.ErrorContext(ctx, "live OCSP answer failed", "issuer", string(id), "error", err.Error())
		return outInternal
	}
}

// byID finds an issuer of the head.
func (ep *epoch) byID(id bulkhead.AuthorityID) *issuer {
	for _, i := range ep.list {
		if i.id == id {
			return i
		}
	}
	return nil
}

// say is what the packs say of one certificate; unknown when they say nothing, and false when it has expired or cannot
// be read.
func (i *issuer) say(c ocsp.CertID, now time.Time) (ocsp.Statement, bool) {
	var found pack.Found
	serial := c.Serial.Fixed()
	known, err := i.find(&serial, c.Hash, &found)
	if err != nil {
		return ocsp.Statement{}, false
	}
	if !known {
		at := now.UTC().Truncate(time.Second)
		return ocsp.Statement{ID: c, Single: ocsp.Single{Serial: c.Serial, State: ocsp.Unknown, ThisUpdate: at.Add(-unknownFor), NextUpdate: at.Add(unknownFor)}}, true
	}
	if found.NextUpdate <= now.Unix() {
		return ocsp.Statement{}, false
	}
	r, err := ocsp.ParseData(found.TBS)
	if err != nil {
		return ocsp.Statement{}, false
	}
	for _, x := range r.Singles {
		if x.Serial == c.Serial {
			return ocsp.Statement{ID: c, Single: x.Single}, true
		}
	}
	return ocsp.Statement{}, false
}
