package edge

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"bulkhead"
	"bulkhead/pki/ocsp"
	"bulkhead/pki/pack"
)

const (
	// maxPost bounds the body of a POST in octets; more is HTTP 413.
	maxPost = 64 << 10
	// maxGet bounds the base64 of a GET in characters; requests meant for GET stay below 255 (RFC 9919 section 5).
	maxGet = 8 << 10
	// maxCertIDs bounds how much of a list is read before it is refused; with live answers Config.MaxCertIDs does.
	maxCertIDs = 256
	// implicitLength is the longest body whose Content-Length net/http adds by itself for certain.
	implicitLength = 2000
)

// scratch is what one request needs and the next one uses again.
type scratch struct {
	in, out []byte
	one     ocsp.One
	found   pack.Found
	text    *strings.Builder // ETag texts, cut from one allocation for many
	values  []string         // header values, the same way
}

var scratches = sync.Pool{New: func() any {
	return &scratch{in: make([]byte, 0, 4<<10), out: make([]byte, 0, 4<<10), text: &strings.Builder{}}
}}

var typeOCSP = []string{"application/ocsp-response"}

var (
	malformed    = ocsp.ErrorResponse(ocsp.MalformedRequest)
	unauthorized = ocsp.ErrorResponse(ocsp.Unauthorized)
	tryLater     = ocsp.ErrorResponse(ocsp.TryLater)

	internalError = ocsp.ErrorResponse(ocsp.InternalError)
)

// serveOCSP answers one request; path is what follows "/ocsp". Errors of OCSP are HTTP 200 and never cacheable.
func (e *Edge) serveOCSP(w http.ResponseWriter, r *http.Request, path string) {
	s := scratches.Get().(*scratch)
	defer s.release()
	var out outcome
	now := e.cfg.Now()
	ep := e.current.Load()
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		out = e.askGet(ep, s, path, now)
	case http.MethodPost:
		if err := s.read(r.Body, r.ContentLength); err != nil {
			e.refuseBody(w, err)
			return
		}
		out = e.ask(ep, s, s.in, now, true)
	default:
		e.metrics.ocsp[outMethod].Inc()
		refuseMethod(w, r, allowOCSP)
		return
	}
	h := w.Header()
	h["Content-Type"] = typeOCSP
	if out == outLive || out == outUnassigned && e.cfg.Live != nil {
		out = e.askLive(r.Context(), ep, s, now, out == outLive)
		if out == outLive {
			e.metrics.ocsp[out].Inc()
			noStore(h) // made for this request alone
			e.write(w, s.out)
			return
		}
	}
	if out != outGood && out != outRevoked {
		e.metrics.ocsp[out].Inc()
		noStore(h)
		_, _ = w.Write(errorBody(out)) // a client that has gone is nobody to tell
		return
	}
	etag := e.setHeaders(h, s, r.Method == http.MethodPost, now)
	if r.Method != http.MethodPost && notModified(r.Header, etag, s.found.ThisUpdate) {
		e.metrics.ocsp[outNotModified].Inc()
		delete(h, "Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.out = ocsp.AppendAssembled(s.out[:0], s.found.TBS, s.found.Signature, s.found.Responder)
	runtime.KeepAlive(ep)
	e.metrics.ocsp[out].Inc()
	e.write(w, s.out)
}

// write sends a response of any length in one piece.
func (e *Edge) write(w http.ResponseWriter, der []byte) {
	if len(der) > implicitLength {
		w.Header()["Content-Length"] = []string{strconv.Itoa(len(der))}
	}
	_, _ = w.Write(der) // a client that has gone is nobody to tell
}

func errorBody(out outcome) []byte {
	switch out {
	case outMalformed:
		return malformed
	case outExpired, outNoHead, outBusy, outDamaged:
		return tryLater
	case outInternal:
		return internalError
	default:
		return unauthorized
	}
}

// ask decides what a DER request gets; with outGood and outRevoked the answer is in s.found, and outLive sends s.in to
// askLive. observe is off for guesses at what a request may have been.
func (e *Edge) ask(ep *epoch, s *scratch, der []byte, now time.Time, observe bool) outcome {
	plain := ocsp.ParseOne(der, &s.one)
	if e.cfg.Live != nil && observe && (!plain || s.one.HasNonce) && e.wantsLive(der) {
		return outLive
	}
	return e.askPacks(ep, s, der, now, plain, observe)
}

// askPacks is ask by pre-signed answers alone; plain says that s.one is set.
func (e *Edge) askPacks(ep *epoch, s *scratch, der []byte, now time.Time, plain, observe bool) outcome {
	if !plain {
		if out := s.askSlow(der, e.cfg.MaxCertIDs); out != outGood {
			return out
		}
	}
	if ep == nil {
		return outNoHead
	}
	key := issuerKey{hash: s.one.Hash}
	copy(key.name[:], s.one.NameHash)
	copy(key.key[:], s.one.KeyHash)
	i := ep.issuers[key]
	if i == nil {
		return outForeign
	}
	serial := s.one.Serial.Fixed()
	known, err := i.find(&serial, s.one.Hash, &s.found)
	if err != nil {
		return outDamaged
	}
	if !known {
		if observe {
			e.sight(i.id, s.one.Serial, now)
		}
		return outUnassigned
	}
	if s.found.NextUpdate <= now.Unix() {
		return outExpired
	}
	if s.found.Revoked {
		return outRevoked
	}
	return outGood
}

// sight passes on that somebody asked for a serial without an answer.
func (e *Edge) sight(id bulkhead.AuthorityID, serial bulkhead.Serial, now time.Time) {
	select {
	case e.observed <- Unassigned{Issuer: id, Serial: serial, At: now}:
	default:
		e.metrics.dropped.Inc()
	}
}

// askSlow reads what ParseOne leaves aside: signed requests and critical extensions are read over, several CertIDs
// and hashes for which nothing is signed are refused. outGood means that s.one is set.
func (s *scratch) askSlow(der []byte, limit int) outcome {
	req, err := ocsp.ParseRequest(der, limit)
	if err != nil {
		return outMalformed
	}
	if len(req.CertIDs) != 1 {
		return outSeveral
	}
	id := req.CertIDs[0]
	if id.Hash != ocsp.SHA1 && id.Hash != ocsp.SHA256 {
		return outForeign
	}
	s.one = ocsp.One{Hash: id.Hash, NameHash: id.NameHash, KeyHash: id.KeyHash, Serial: id.Serial}
	return outGood
}

var errTooLarge = errors.New("request body is too large")

// read fills s.in with a body of at most maxPost octets.
func (s *scratch) read(body io.Reader, length int64) error {
	s.in = s.in[:0]
	if length > maxPost {
		return errTooLarge
	}
	for {
		if len(s.in) == cap(s.in) {
			s.in = append(s.in, 0)[:len(s.in)]
		}
		n, err := body.Read(s.in[len(s.in):min(cap(s.in), maxPost+1)])
		s.in = s.in[:len(s.in)+n]
		switch {
		case len(s.in) > maxPost:
			return errTooLarge
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (e *Edge) refuseBody(w http.ResponseWriter, err error) {
	noStore(w.Header())
	if errors.Is(err, errTooLarge) {
		e.metrics.ocsp[outTooLarge].Inc()
		http.Error(w, "an OCSP request has at most 65536 octets", http.StatusRequestEntityTooLarge)
		return
	}
	e.metrics.ocsp[outMalformed].Inc()
	http.Error(w, "the request body could not be read", http.StatusBadRequest)
}

// release gives the scratch back, without buffers that one large request made, and without bytes of any mapping.
func (s *scratch) release() {
	s.one, s.found = ocsp.One{}, pack.Found{}
	if cap(s.in) <= 16<<10 && cap(s.out) <= 16<<10 {
		scratches.Put(s)
	}
}
