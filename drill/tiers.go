package drill

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"time"
)

// Cache is one HTTP cache of the world outside, on loopback. It keeps what it fetched for its time to live, whatever the
// answer's headers say, as the caches of 2016 did; what must not be stored it does not keep.
type Cache interface {
	Name() string
	URL() string // http://HOST:PORT
	// Adapter is how it is purged, by the name of the adapter in a tier's configuration.
	Adapter() string
	// SetDeaf makes it say that it purged, and keep what it has; or purge again.
	SetDeaf(deaf bool) error
	// Empty has it forget all that it keeps, as when the time of all of it is over.
	Empty() error
	Close() error
}

// makeCache starts a cache in front of an origin, http://HOST:PORT.
type makeCache func(name string, ttl time.Duration, origin string) (Cache, error)

// tiersOf are the makers of the load balancer's nodes and of the CDN, and what to say of them.
func (s *Stage) tiersOf() (balancer, cdn makeCache, say func()) {
	if s.o.RealCaches {
		return s.varnish, s.nginx, func() {
			s.measured("the load balancer of two nodes and the CDN: two Varnish and an nginx, which keep for their hours whatever the day's clock says; what would have ended is emptied")
		}
	}
	simulated := func(name string, ttl time.Duration, origin string) (Cache, error) {
		return newCacheNode(name, ttl, s.clock, forward(func() string { return origin }))
	}
	return simulated, simulated, func() {
		s.simulated("the load balancer of two nodes (8 h) and the CDN (1 h): caches of the drill's own on loopback, on the day's clock (--real-caches takes Varnish and nginx)")
	}
}

// listen serves a handler on loopback until the day is over.
func (s *Stage) listen(h http.Handler) (at string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(l) //nolint:errcheck // it ends with the day
	s.end(server.Close)
	return "http://" + l.Addr().String(), nil
}

// forward passes requests on to where they go next, octet by octet: forms of one URL stay apart.
func forward(to func() string) http.Handler {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableCompression: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, "the request broke off", http.StatusBadRequest)
			return
		}
		up, err := http.NewRequestWithContext(r.Context(), r.Method, to()+r.RequestURI, bytes.NewReader(body))
		if err != nil {
			http.Error(w, "not a request", http.StatusBadRequest)
			return
		}
		up.Header, up.Host = r.Header.Clone(), r.Host
		res, err := client.Do(up)
		if err != nil {
			http.Error(w, "the next tier does not answer", http.StatusBadGateway)
			return
		}
		defer res.Body.Close()
		for name, values := range res.Header {
			w.Header()[name] = values
		}
		w.WriteHeader(res.StatusCode)
		_, _ = io.Copy(w, io.LimitReader(res.Body, maxBody))
	})
}
