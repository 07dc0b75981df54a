package edge

import (
	"net/http"
	"strings"
)

// Handler serves /ocsp/, /crl/, /ca/, /livez and /readyz. It is no http.ServeMux, because that redirects paths with
// "//", which base64 makes.
func (e *Edge) Handler() http.Handler { return http.HandlerFunc(e.serve) }

func (e *Edge) serve(w http.ResponseWriter, r *http.Request) {
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") { // absolute form, or a request that no server parsed
		target = r.URL.EscapedPath()
	}
	if i := strings.IndexByte(target, '?'); i >= 0 {
		target = target[:i]
	}
	if rest, ok := strings.CutPrefix(target, "/ocsp"); ok && (rest == "" || rest[0] == '/') {
		e.serveOCSP(w, r, rest)
		return
	}
	switch {
	case target == "/livez":
		e.plain(w, r, livez)
	case target == "/readyz":
		e.plain(w, r, e.readyz)
	case strings.HasPrefix(target, "/crl/"), strings.HasPrefix(target, "/ca/"):
		e.serveFile(w, r, target)
	default:
		noStore(w.Header())
		http.Error(w, "not found: OCSP is at /ocsp/, CRLs at /crl/ISSUER/SHARD.crl, CA certificates at /ca/ISSUER.cer", http.StatusNotFound)
	}
}

// plain lets GET and HEAD through.
func (e *Edge) plain(w http.ResponseWriter, r *http.Request, f http.HandlerFunc) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		refuseMethod(w, r, allowRead)
		return
	}
	f(w, r)
}

var (
	allowRead = []string{"GET, HEAD, OPTIONS"}
	allowOCSP = []string{"GET, HEAD, POST, OPTIONS"}
	noStored  = []string{"no-store"}
)

func noStore(h http.Header) { h["Cache-Control"] = noStored }

// refuseMethod answers OPTIONS with what is allowed and everything else with 405.
func refuseMethod(w http.ResponseWriter, r *http.Request, allow []string) {
	h := w.Header()
	h["Allow"] = allow
	noStore(h)
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	http.Error(w, "method not allowed: use "+allow[0], http.StatusMethodNotAllowed)
}
