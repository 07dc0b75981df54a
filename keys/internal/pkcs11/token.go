//go:build pkcs11

package pkcs11

import (
	"crypto"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"bulkhead"
)

const (
	// maxSessions bounds the sessions that are open at a time; further calls wait.
	maxSessions = 16
	// patience is how long a caller waits for the token: one that hangs must not take its callers with it.
	patience = 20 * time.Second
	// makingPatience is patience where a key is made: RSA on a small token takes its time.
	makingPatience = 5 * time.Minute
	// againEvery bounds how often a library is initialised anew while its token stays away.
	againEvery = 100 * time.Millisecond
)

// modules are the libraries that this process has loaded: each is initialised once.
var modules = struct {
	sync.Mutex
	byPath map[string]*module
}{byPath: map[string]*module{}}

// module is a loaded library. Some see a token that was plugged in only after they were initialised again, which ends
// every session and every object handle, and may give their numbers to others: so calls hold use for reading, that holds
// it for writing, and what was had under an earlier generation is never used.
type module struct {
	*pkcs11.Ctx
	use        sync.RWMutex
	generation uint64    // guarded by use
	since      time.Time // guarded by use: when the generation began
}

// again initialises the library anew, unless another did since; not more often than each againEvery.
func (m *module) again(seen uint64) error {
	m.use.RLock()
	rest := againEvery - time.Since(m.since)
	m.use.RUnlock()
	time.Sleep(rest)
	m.use.Lock()
	defer m.use.Unlock()
	if m.generation != seen || time.Since(m.since) < againEvery {
		return nil
	}
	if err := m.Finalize(); err != nil && !is(err, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED) {
		return err
	}
	m.generation, m.since = m.generation+1, time.Now()
	return m.Initialize()
}

// Token is a token with a pool of sessions. Safe for concurrent use.
type Token struct {
	uri   URI
	pin   string
	ctx   *module
	slots chan struct{} // one for each session that may be open

	mu         sync.Mutex
	generation uint64                         // guarded by mu: of the module, when idle and private were had
	idle       []pkcs11.SessionHandle         // guarded by mu
	private    map[string]pkcs11.ObjectHandle // guarded by mu: private keys by label, as found last
	made       sync.Mutex                     // held while a label is looked for and taken
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
	t := &Token{uri: u, pin: string(pin), ctx: ctx, slots: make(chan struct{}, maxSessions), private: map[string]pkcs11.ObjectHandle{}}
	_, err := with(t, patience, func(pkcs11.SessionHandle) (struct{}, error) { return struct{}{}, nil })
	return t, err
}

func is(err error, codes ...uint) bool {
	var e pkcs11.Error
	return errors.As(err, &e) && slices.Contains(codes, uint(e))
}

func away(u URI, err error) error {
	return bulkhead.Faultf(bulkhead.KindUnavailable, "token %q does not answer", u.Token).WithHint("plug the token in and check its library; it is used again by itself").
		WithRetry(5 * time.Second).WithCause(err)
}

// errSlow is the cause where a token answers neither yes nor no.
var errSlow = errors.New("no answer in time")

// lost are the errors after which a session is of no use and a new one may be.
var lost = []uint{pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_ERROR,
	pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_SLOT_ID_INVALID,
	pkcs11.CKR_OPERATION_ACTIVE, pkcs11.CKR_OPERATION_NOT_INITIALIZED, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_TOKEN_NOT_RECOGNIZED}

// gone are those of them after which only a library that was initialised anew may see the token.
var gone = []uint{pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_TOKEN_NOT_RECOGNIZED}

// with runs f in a session and returns what it returns. When the token went away, the pool is dropped and f runs once more
// in a new session; f has to find its objects anew. KindUnavailable when that fails, too, and when no answer comes within
// wait: then f may still run, and what it returns is nobody's.
func with[R any](t *Token, wait time.Duration, f func(pkcs11.SessionHandle) (R, error)) (R, error) {
	var none R
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case t.slots <- struct{}{}:
	case <-late.C:
		return none, away(t.uri, errSlow)
	}
	type result struct {
		value R
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-t.slots }()
		var r result
		r.err = t.twice(func(s pkcs11.SessionHandle) (err error) {
			r.value, err = f(s)
			return err
		})
		done <- r
	}()
	select {
	case r := <-done:
		if r.err != nil {
			return none, r.err
		}
		return r.value, nil
	case <-late.C:
		return none, away(t.uri, errSlow)
	}
}

func (t *Token) twice(f func(pkcs11.SessionHandle) error) error {
	var last error
	for range 2 {
		err, generation, again := t.once(f)
		if !again {
			return t.fault(err)
		}
		last = err
		if is(err, gone...) {
			if err := t.ctx.again(generation); err != nil {
				return away(t.uri, err)
			}
		}
	}
	return away(t.uri, last)
}

// once runs f in a session; again reports that the session is of no use any more.
func (t *Token) once(f func(pkcs11.SessionHandle) error) (err error, generation uint64, again bool) {
	t.ctx.use.RLock()
	defer t.ctx.use.RUnlock()
	s, err := t.session()
	if err == nil {
		err = f(s)
		if !is(err, lost...) {
			t.mu.Lock()
			t.idle = append(t.idle, s)
			t.mu.Unlock()
			return err, t.ctx.generation, false
		}
		_ = t.ctx.CloseSession(s) // best effort: it may be gone
	}
	t.forget()
	var fault *bulkhead.Fault
	return err, t.ctx.generation, !errors.As(err, &fault)
}

// forget gives up the pool and every handle, because one of them was of no use. The caller holds use.
func (t *Token) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.idle {
		_ = t.ctx.CloseSession(s)
	}
	t.idle = nil
	clear(t.private)
}

// fault gives a fault of the house for an error of the library; faults pass.
func (t *Token) fault(err error) error {
	var f *bulkhead.Fault
	if err == nil || errors.As(err, &f) {
		return err
	}
	return away(t.uri, err)
}

// session takes one from the pool, or opens one and logs in.
func (t *Token) session() (pkcs11.SessionHandle, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.generation != t.ctx.generation { // their numbers may be others' by now
		t.generation, t.idle = t.ctx.generation, nil
		clear(t.private)
	}
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
	if err == nil || is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN) {
		return s, nil
	}
	_ = t.ctx.CloseSession(s)
	if is(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_LOCKED) {
		return 0, bulkhead.Faultf(bulkhead.KindUnauthorized, "token %q refuses the PIN", t.uri.Token).WithHint("check the file of pin-source; a token locks itself after a few wrong PINs")
	}
	return 0, err
}

// privateKey is the handle of the private key with a label, kept from the last time where there is one.
func (t *Token) privateKey(s pkcs11.SessionHandle, label string) (pkcs11.ObjectHandle, error) {
	t.mu.Lock()
	o, known := t.private[label]
	t.mu.Unlock()
	if known {
		return o, nil
	}
	found, err := t.find(s, pkcs11.CKO_PRIVATE_KEY, label)
	if err != nil {
		return 0, err
	}
	if len(found) != 1 {
		return 0, t.absent(bulkhead.NewFault(bulkhead.KindNotFound, "the key was destroyed").WithHint("open the key that follows it"))
	}
	t.mu.Lock()
	t.private[label] = found[0]
	t.mu.Unlock()
	return found[0], nil
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

// absent says that a key is not there, unless it is the token that is not: one that is just going away shows no objects.
func (t *Token) absent(f *bulkhead.Fault) error {
	if _, err := t.slot(); err != nil {
		return err
	}
	return f
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
