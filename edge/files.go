package edge

import (
	"bytes"
	"net/http"
	"runtime"
	"strconv"
	"time"
)

// certificateAge is how long a CA certificate may be kept: an AIA object changes only when an authority gets a new
// certificate for its key, and the old one stays valid then.
const certificateAge = 24 * time.Hour

// urlsAge is how long a list of CRLs may be kept: shards are added, never taken away.
const urlsAge = time.Hour

// serveFile serves a CRL or CA certificate: strong ETag, conditions, ranges and HEAD by http.ServeContent.
func (e *Edge) serveFile(w http.ResponseWriter, r *http.Request, path string) {
	e.metrics.files.WithLabelValues(path[1:3]).Inc()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuseMethod(w, r, allowRead)
		return
	}
	h := w.Header()
	ep := e.current.Load()
	if ep == nil {
		noStore(h)
		h["Retry-After"] = []string{"5"}
		http.Error(w, "nothing is published yet", http.StatusServiceUnavailable)
		return
	}
	f := ep.files[path]
	if f == nil {
		noStore(h)
		http.Error(w, "not found: there is no such issuer or CRL shard", http.StatusNotFound)
		return
	}
	now := e.cfg.Now()
	h["Content-Type"] = f.mediaType
	h["Etag"] = f.etagValue
	switch {
	case f.nextUpdate.IsZero():
		h["Cache-Control"] = []string{"public, max-age=" + strconv.Itoa(int(f.age/time.Second)) + ", no-transform"}
		h["Expires"] = []string{httpTime(now.Add(f.age))}
	case !now.Before(f.nextUpdate):
		noStore(h)
	default:
		h["Cache-Control"] = []string{cacheControl(f.nextUpdate.Unix(), now.Unix(), e.cfg.MaxAge)}
		h["Expires"] = []string{httpTime(f.nextUpdate)}
	}
	http.ServeContent(w, r, "", f.thisUpdate, bytes.NewReader(f.object.data))
	runtime.KeepAlive(ep)
}
