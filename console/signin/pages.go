package signin

import (
	"embed"
	"encoding/json"
	"html/template"
	"log/slog"
	"net/http"

	"bulkhead"
)

// prefix is where the pages are.
const prefix = "/signin/"

//go:embed page
var files embed.FS

var page = template.Must(template.ParseFS(files, "page/*.html"))

// Handler serves the pages and what their script asks. status maps kinds to HTTP.
func (s *Service) Handler(status func(bulkhead.Kind) int) http.Handler {
	h := &handler{s, status}
	m := http.NewServeMux()
	m.HandleFunc("GET "+prefix+"{$}", h.page("signin.html"))
	m.HandleFunc("GET "+prefix+"register", h.page("register.html"))
	m.HandleFunc("GET "+prefix+"page.js", h.file("page/page.js", "text/javascript; charset=utf-8"))
	m.HandleFunc("GET "+prefix+"page.css", h.file("page/page.css", "text/css; charset=utf-8"))
	m.HandleFunc("GET "+prefix+"session", h.json(h.session))
	m.HandleFunc("POST "+prefix+"key/begin", h.json(h.keyBegin))
	m.HandleFunc("POST "+prefix+"key/finish", h.json(h.keyFinish))
	m.HandleFunc("POST "+prefix+"register/begin", h.json(h.registerBegin))
	m.HandleFunc("POST "+prefix+"register/finish", h.json(h.registerFinish))
	m.HandleFunc("POST "+prefix+"out", h.json(h.out))
	m.HandleFunc("GET "+prefix+"oidc", h.oidcBegin)
	m.HandleFunc("GET "+callback, h.oidcFinish)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Cache-Control", "no-store")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		m.ServeHTTP(w, r)
	})
}

type handler struct {
	s      *Service
	status func(bulkhead.Kind) int
}

// view is what the pages show.
type view struct {
	House    string
	Provider string // "" for none
	Title    string // of a message
	Detail   string
	Hint     string
	Done     bool
}

func (h *handler) show(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.House = h.s.cfg.House
	if h.s.cfg.OIDC != nil {
		v.Provider = h.s.cfg.OIDC.Issuer
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	if err := page.ExecuteTemplate(w, name, v); err != nil {
		h.s.cfg.Log.ErrorContext(r.Context(), "a page could not be written", slog.String("page", name), slog.String("error", err.Error()))
	}
}

func (h *handler) page(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { h.show(w, r, http.StatusOK, name, view{}) }
}

func (h *handler) file(name, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		body, err := files.ReadFile(name)
		if err != nil {
			http.Error(w, "not found", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", kind)
		_, _ = w.Write(body) // the client is gone when this fails
	}
}

// json answers with a document, or with a problem (RFC 9457). A POST comes from the page itself.
func (h *handler) json(do func(http.ResponseWriter, *http.Request, []byte) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := func() (any, error) {
			if r.Method == http.MethodPost {
				if err := h.s.sameOrigin(r); err != nil {
					return nil, err
				}
			}
			body, err := decodeLimited(r)
			if err != nil {
				return nil, err
			}
			return do(w, r, body)
		}()
		code := http.StatusOK
		w.Header().Set("Content-Type", "application/json")
		if err != nil {
			f := bulkhead.AsFault(err)
			if code = h.status(f.Kind); code == 0 {
				code = http.StatusInternalServerError
			}
			h.log(r, code, err)
			w.Header().Set("Content-Type", "application/problem+json")
			v = map[string]any{"type": "urn:bulkhead:problem:" + string(f.Kind), "title": string(f.Kind), "status": code, "detail": f.Detail, "hint": f.Hint}
		}
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(v) // the client is gone when this fails
	}
}

func (h *handler) log(r *http.Request, code int, err error) {
	level := slog.LevelInfo
	if code >= 500 {
		level = slog.LevelError
	}
	h.s.cfg.Log.Log(r.Context(), level, "a sign-in was refused", slog.String("path", r.URL.Path), slog.String("error", err.Error()))
}

func decode(body []byte, into any) error {
	if err := json.Unmarshal(body, into); err != nil {
		return bulkhead.NewFault(bulkhead.KindMalformed, "the request body is not what this takes").WithCause(err)
	}
	return nil
}

// setCookie gives a cookie to this host alone; seconds below 0 take it back.
func setCookie(w http.ResponseWriter, name, value string, seconds int, site http.SameSite) {
	http.SetCookie(w, &http.Cookie{Name: name, Value: value, Path: "/", MaxAge: seconds, Secure: true, HttpOnly: true, SameSite: site})
}

func (h *handler) welcome(w http.ResponseWriter, token string) {
	setCookie(w, sessionCookie, token, int(h.s.cfg.Session.Seconds()), http.SameSiteStrictMode)
}

// SessionView is who is signed in, and the proof that the page's own requests carry.
type SessionView struct {
	Operator  string   `json:"operator"`
	Method    string   `json:"method"`
	Roles     []string `json:"roles"`
	ExpiresAt string   `json:"expires_at"`
	CSRF      string   `json:"csrf"`
	RPID      string   `json:"rp_id"`
}

func (h *handler) session(_ http.ResponseWriter, r *http.Request, _ []byte) (any, error) {
	op, x, err := h.s.session(r)
	if err != nil {
		return nil, err
	}
	_, rpID, err := h.s.site()
	if err != nil {
		return nil, err
	}
	c, err := r.Cookie(sessionCookie)
	if err != nil {
		return nil, err
	}
	return SessionView{op.Name, x.Method, append([]string{}, op.Roles...), x.ExpiresAt.Format("2006-01-02 15:04:05 UTC"), csrf(c.Value), rpID}, nil
}

func (h *handler) keyBegin(_ http.ResponseWriter, r *http.Request, _ []byte) (any, error) {
	return h.s.BeginKey(r.Context())
}

// answer is what a page sends back.
type answer struct {
	ID       string          `json:"id"`
	Token    string          `json:"token"`
	Label    string          `json:"label"`
	Response json.RawMessage `json:"response"`
}

func (h *handler) keyFinish(w http.ResponseWriter, r *http.Request, body []byte) (any, error) {
	var in answer
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	token, x, err := h.s.FinishKey(r.Context(), in.ID, in.Response)
	if err != nil {
		return nil, err
	}
	h.welcome(w, token)
	return map[string]string{"operator": x.Operator}, nil
}

func (h *handler) registerBegin(_ http.ResponseWriter, r *http.Request, body []byte) (any, error) {
	var in answer
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	c, who, err := h.s.BeginRegister(r.Context(), in.Token)
	return map[string]any{"id": c.ID, "public_key": c.PublicKey, "operator": who.Operator, "new": who.New, "roles": who.Roles}, err
}

func (h *handler) registerFinish(_ http.ResponseWriter, r *http.Request, body []byte) (any, error) {
	var in answer
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	q, err := h.s.FinishRegister(r.Context(), in.Token, in.ID, in.Label, in.Response)
	return map[string]any{"request": q.ID, "needed": q.Needed}, err
}

func (h *handler) out(w http.ResponseWriter, r *http.Request, _ []byte) (any, error) {
	if err := h.s.fromHere(r); err != nil {
		return nil, err
	}
	err := h.s.End(r)
	setCookie(w, sessionCookie, "", -1, http.SameSiteStrictMode)
	return map[string]bool{"signed_out": err == nil}, err
}

func (h *handler) oidcBegin(w http.ResponseWriter, r *http.Request) {
	to, binder, err := h.s.BeginOIDC(r.Context())
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	// Lax, for the way back begins at the provider.
	setCookie(w, binderCookie, binder, int(stepFor.Seconds()), http.SameSiteLaxMode)
	http.Redirect(w, r, to, http.StatusFound)
}

func (h *handler) oidcFinish(w http.ResponseWriter, r *http.Request) {
	binder := ""
	if c, err := r.Cookie(binderCookie); err == nil {
		binder = c.Value
	}
	setCookie(w, binderCookie, "", -1, http.SameSiteLaxMode)
	token, x, err := h.s.FinishOIDC(r.Context(), r.URL.Query(), binder)
	if err != nil {
		h.refuse(w, r, err)
		return
	}
	h.welcome(w, token)
	// A page and not a redirect: a strict cookie does not go along on a way that began at another site.
	h.show(w, r, http.StatusOK, "message.html", view{Title: "Signed in as " + x.Operator, Done: true})
}

func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f := bulkhead.AsFault(err)
	code := h.status(f.Kind)
	if code == 0 {
		code = http.StatusInternalServerError
	}
	h.log(r, code, err)
	h.show(w, r, code, "message.html", view{Title: "Not signed in", Detail: f.Detail, Hint: f.Hint})
}
