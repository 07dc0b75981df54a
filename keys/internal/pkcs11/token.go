//go:build pkcs11

package pkcs11

import (
	"crypto"
	"errors"
	"slices"
	"sync"

	"github.com/miekg/pkcs11"

	"bulkhead"
)

// maxSessions bounds the sessions that are open at a time; further calls wait.
const maxSessions = 16

// modules are the libraries that this process has loaded: each is initialised once.
var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: map[string]*module{}}

// module is a loaded library. Some see a token that was plugged in only after they were initialised again, which ends
// every session: so calls hold use for reading, and that holds it for writing.
type module struct {
	*pkcs11.Ctx
	use sync.RWMutex
}

// again initialises the library anew.
func (m *module) again() error {
	m.use.Lock()
	defer m.use.Unlock()
	if err := m.Finalize(); err != nil && !is(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) {
		return err
	}
	return m.Initialize()
}

// Token is a token with a pool of sessions. Safe for concurrent use.
type Token struct {
	uri   URI
	pin   string
	ctx   *module
	slots chan struct{} // one for each session that may be open

	mu   sync.Mutex
	idle []pkcs11.SessionHandle // guarded by mu
	made sync.Mutex             // held while a label is looked for and taken
}

// Open loads the library and logs in once, so that a wrong PIN is found at once.
func Open(u URI, pin []byte) (*Token, error) {
	if u.ModulePath == "" {
		return nil, bulkhead.NewFault(bulkhead.KindUsage, "the URI of the token names no library").WithHint("add ?module-path=/usr/lib/softhsm/libsofthsm2.so")
	}
	modules.Lock()
	defer modules.Unlock()
	ctx := modules.byPath[u.ModulePath]
	if ctx == nil {
		raw := pkcs11.New(u.ModulePath)
		if raw == nil {
			return nil, bulkhead.Faultf(bulkhead.KindUsage, "the PKCS#11 library %s cannot be loaded", u.ModulePath).WithHint("check module-path")
		}
		ctx = &module{Ctx: raw}
		if err := ctx.Initialize(); err != nil && !is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
			return nil, away(u, err)
		}
		modules.byPath[u.ModulePath] = ctx
	}
	t := &Token{uri: u, pin: string(pin), ctx: ctx, slots: make(chan struct{}, maxSessions)}
	return t, t.with(func(pkcs11.SessionHandle) error { return nil })
}

func is(err error, codes ...uint) bool {
	var e pkcs11.Error
	return errors.As(err, &e) && slices.Contains(codes, uint(e))
}

func away(u URI, err error) error {
	return bulkhead.Faultf(bulkhead.KindUnavailable, "token %q does not answer", u.Token).WithHint("plug the token in and check its library; it is used again by itself").WithCause(err)
}

// lost are the errors after which a session is of no use and a new one may be.
var lost = []uint{pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_ERROR,
	pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_SLOT_ID_INVALID}

// with runs f in a session. When the token went away, the pool is dropped and f runs once more in a new session; f has to
// find its objects anew. KindUnavailable when that fails, too.
func (t *Token) with(f func(pkcs11.SessionHandle) error) error {
	t.slots <- struct{}{}
	defer func() { <-t.slots }()
	var last error
	for range 2 {
		err, again := t.once(f)
		if !again {
			return t.fault(err)
		}
		last = err
		if is(err, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) {
			if err := t.ctx.again(); err != nil {
				return away(t.uri, err)
			}
		}
	}
	return away(t.uri, last)
}

// once runs f in a session; again reports that the session is of no use any more.
func (t *Token) once(f func(pkcs11.SessionHandle) error) (err error, again bool) {
	t.ctx.use.RLock()
	defer t.ctx.use.RUnlock()
	s, err := t.session()
	if err == nil {
		err = f(s)
		if !is(err, lost...) {
			t.mu.Lock()
			t.idle = append(t.idle, s)
			t.mu.Unlock()
			return err, false
		}
	}
	t.mu.Lock()
	t.idle = nil
	t.mu.Unlock()
	var fault *bulkhead.Fault
	return err, !errors.As(err, &fault)
}

// fault gives a fault of the house for an error of the library; faults pass.
func (t *Token) fault(err error) error {
	var f *bulkhead.Fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	return away(t.uri, err)
}

func (t *Token) session() (pkcs11.SessionHandle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		s := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return s, nil
	}
	slot, err := t.slot()
	if err != nil {
		return 0, err
	}
	s, err := t.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return 0, err
	}
	err = t.ctx.Login(s, pkcs11.CKU_USER, t.pin)
	if is(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_LOCKED) {
		return 0, bulkhead.Faultf(bulkhead.KindUnauthorized, "token %q refuses the PIN", t.uri.Token).WithHint("check the file of pin-source; a token locks itself after a few wrong PINs")
	}
	if err != nil && !is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		return 0, err
	}
	return s, nil
}

// slot finds the token by its label: its slot may be another after it was away.
func (t *Token) slot() (uint, error) {
	slots, err := t.ctx.GetSlotList(true)
	if err != nil {
		return 0, err
	}
	for _, id := range slots {
		if info, err := t.ctx.GetTokenInfo(id); err == nil && info.Label == t.uri.Token {
			return id, nil
		}
	}
	return 0, pkcs11.Error(pkcs11.CKR_TOKEN_NOT_PRESENT)
}

// find returns the objects of a class with a label; "" for any.
func (t *Token) find(s pkcs11.SessionHandle, class uint, label string) ([]pkcs11.ObjectHandle, error) {
	tmpl := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, class)}
	if label != "" {
		tmpl = append(tmpl, pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	}
	if err := t.ctx.FindObjectsInit(s, tmpl); err != nil {
		return nil, err
	}
	found, _, err := t.ctx.FindObjects(s, 1000)
	return found, errors.Join(err, t.ctx.FindObjectsFinal(s))
}

var _ crypto.Signer = (*signer)(nil)
