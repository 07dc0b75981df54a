package edge

import (
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/pki/pack"
)

// httpTime is the IMF-fixdate of RFC 9110 section 5.6.7: always GMT, never "UTC".
func httpTime(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

// window holds the header values of all answers that share thisUpdate and nextUpdate: a batch was signed in one go,
// so a handful of windows covers all answers.
type window struct {
	lastModified, expires []string
	control               atomic.Pointer[control]
}

// control is Cache-Control as it reads during one second.
type control struct {
	second int64
	value  []string
}

// maxWindows bounds the cache of header values; hostile packs could hold a window per answer.
const maxWindows = 1024

// headerCache finds windows without locking; a new one is rare and copies the map.
type headerCache struct {
	windows atomic.Pointer[map[[2]int64]*window]
	mu      sync.Mutex
}

func (c *headerCache) of(this, next int64) *window {
	key := [2]int64{this, next}
	if m := c.windows.Load(); m != nil {
		if w := (*m)[key]; w != nil {
			return w
		}
	}
	w := &window{lastModified: []string{httpTime(time.Unix(this, 0))}, expires: []string{httpTime(time.Unix(next, 0))}}
	c.mu.Lock()
	defer c.mu.Unlock()
	m := map[[2]int64]*window{key: w}
	if old := c.windows.Load(); old != nil && len(*old) < maxWindows {
		for k, v := range *old {
			m[k] = v
		}
	}
	c.windows.Store(&m)
	return w
}

// cacheControl lets nobody keep what ends at next until then or beyond: the margin covers the second that a Date
// header may be ahead of now. Without any time left it is no-store.
func cacheControl(next, now int64, limit time.Duration) string {
	const margin = 2
	age := next - now - margin
	if most := int64(limit / time.Second); limit > 0 && age > most {
		age = most
	}
	if age <= 0 {
		return noStored[0]
	}
	return "public, max-age=" + strconv.FormatInt(age, 10) + ", no-transform, must-revalidate"
}

// setHeaders sets the headers of the answer in s (RFC 9919 section 6) and returns its ETag.
func (e *Edge) setHeaders(h http.Header, s *scratch, post bool, now time.Time) string {
	f := &s.found
	win := e.headers.of(f.ThisUpdate, f.NextUpdate)
	etag := s.etag(f.ETag)
	h["Etag"] = etag
	h["Last-Modified"] = win.lastModified
	h["Expires"] = win.expires
	if post {
		noStore(h)
		return etag[0]
	}
	second := now.Unix()
	c := win.control.Load()
	if c == nil || c.second != second {
		c = &control{second: second, value: []string{cacheControl(f.NextUpdate, second, e.cfg.MaxAge)}}
		win.control.Store(c)
	}
	h["Cache-Control"] = c.value
	return etag[0]
}

const (
	etagText  = 2 + 2*pack.ETagSize
	etagBatch = 256 // ETags to one allocation
)

// etag is the strong ETag as a header value. net/http keeps header values until after the handler has returned, so
// they cannot live in a buffer that is used again: they are cut from a block that the collector frees as a whole.
func (s *scratch) etag(digest [pack.ETagSize]byte) []string {
	const hex = "0123456789abcdef"
	if s.text.Cap()-s.text.Len() < etagText {
		s.text = &strings.Builder{}
		s.text.Grow(etagBatch * etagText)
	}
	if len(s.values) == cap(s.values) {
		s.values = make([]string, 0, etagBatch)
	}
	var b [etagText]byte
	b[0], b[etagText-1] = '"', '"'
	for i, v := range digest {
		b[1+2*i], b[2+2*i] = hex[v>>4], hex[v&15]
	}
	at := s.text.Len()
	s.text.Write(b[:])
	s.values = append(s.values, s.text.String()[at:])
	n := len(s.values)
	return s.values[n-1 : n : n]
}

// notModified evaluates the preconditions of a GET or HEAD in the order of RFC 9110 section 13.2.2.
func notModified(h http.Header, etag string, thisUpdate int64) bool {
	if v := h["If-None-Match"]; len(v) > 0 {
		for _, list := range v {
			if matchesAny(list, etag) {
				return true
			}
		}
		return false
	}
	v := h["If-Modified-Since"]
	if len(v) != 1 {
		return false
	}
	since, err := http.ParseTime(v[0])
	return err == nil && thisUpdate <= since.Unix()
}

// matchesAny compares weakly, as If-None-Match does (RFC 9110 section 13.1.2). Our ETags hold no comma.
func matchesAny(list, etag string) bool {
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimSpace(item)
		if item == "*" || strings.TrimPrefix(item, "W/") == etag {
			return true
		}
	}
	return false
}
