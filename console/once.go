package console

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"bulkhead"
)

const (
	idempotencyHeader = "Idempotency-Key"
	// maxReply is the largest answer that is kept; the largest there is, a previewed change, has some thirty thousand.
	maxReply = 1 << 20
	// maxKey is the longest idempotency key, in octets.
	maxKey = 255
	// replyLife is how long an answer is kept for its key.
	replyLife = 24 * time.Hour
	// replyLease is how long a key belongs to whoever began its request: the time after which a key of a process that
	// died can be used again.
	replyLease = 2 * time.Minute
	// actionTimeout ends what holds a key well before its lease does, so that nobody else begins meanwhile.
	actionTimeout = 90 * time.Second
	// replyWait is how long a second request waits for the first, and replyPoll how often it looks.
	replyWait = 5 * time.Second
	replyPoll = 100 * time.Millisecond
	// forgetEvery spaces the deletion of expired replies.
	forgetEvery = 10 * time.Minute
)

// once carries out act for the first request with this key and gives every later one the same answer. A request that
// failed for a passing reason (5xx, 429, a refusal that says when to try again) is not remembered: the key may be used
// again at once. The action goes on when the client hangs up: it asks again with the same key.
func (a *API) once(r *http.Request, w who, keys []string, body []byte, act func(context.Context) *answer) (*answer, error) {
	if len(keys) != 1 || !visible(keys[0]) {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "the header %s is not 1 to %d visible ASCII characters, once", idempotencyHeader, maxKey).WithHint("use a random UUID")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), actionTimeout)
	defer cancel()
	claim := bulkhead.Reply{KeyHash: digestOf("bulkhead reply v1", w.actor(), keys[0]), Owner: w.actor(),
		Request: digestOf("bulkhead request v1", r.Method, r.URL.RequestURI(), string(body)), Holder: rand.Text()}
	seal, err := sealing(w.actor(), keys[0])
	if err != nil {
		return nil, err
	}
	held, err := a.claim(ctx, r.Context(), claim)
	switch {
	case err != nil:
		return nil, err
	case held.Request != claim.Request:
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "the %s was used for another request", idempotencyHeader).WithHint("use a new key for a new request, and the same bytes for the same one")
	case held.Status != 0:
		return replay(seal, held)
	case held.Holder != claim.Holder:
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "a request with this %s is under way", idempotencyHeader).WithHint("ask again with the same key").WithRetry(2 * time.Second)
	}
	x := act(ctx)
	a.keep(context.WithoutCancel(ctx), seal, claim, x)
	return x, nil
}

func visible(key string) bool {
	for i := range len(key) {
		if key[i] < 0x21 || key[i] > 0x7e {
			return false
		}
	}
	return len(key) > 0 && len(key) <= maxKey
}

// claim tries until the key is this request's, or answered, or the wait is over, or the client has gone.
func (a *API) claim(ctx, client context.Context, c bulkhead.Reply) (bulkhead.Reply, error) {
	wait := time.NewTimer(replyWait)
	defer wait.Stop()
	poll := time.NewTicker(replyPoll)
	defer poll.Stop()
	for {
		now := a.cfg.Now().UTC()
		c.LeaseUntil, c.ExpiresAt = now.Add(replyLease), now.Add(replyLife)
		held, err := a.cfg.Replies.ClaimReply(ctx, c, now)
		if err != nil || held.Request != c.Request || held.Status != 0 || held.Holder == c.Holder {
			return held, err
		}
		select {
		case <-wait.C:
			return held, nil
		case <-client.Done():
			return held, nil
		case <-poll.C:
		}
	}
}

// keep stores the answer, or gives the key up. When the record is away the answer still goes out, and the key is free
// after its lease.
func (a *API) keep(ctx context.Context, seal cipher.AEAD, c bulkhead.Reply, x *answer) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var err error
	if x.status >= 500 || x.status == http.StatusTooManyRequests || x.retryAfter > 0 {
		err = a.cfg.Replies.ReleaseReply(ctx, c.KeyHash, c.Holder)
	} else {
		if len(x.body) > maxReply {
			x = &answer{status: http.StatusConflict, body: encode(problem{Type: ProblemType(bulkhead.KindConflict), Title: string(bulkhead.KindConflict), Status: http.StatusConflict,
				Detail: "the request was carried out; its answer was too large to be kept"})}
		}
		nonce := make([]byte, seal.NonceSize())
		rand.Read(nonce) // never fails (crypto/rand)
		err = a.cfg.Replies.FinishReply(ctx, c.KeyHash, c.Holder, x.status, seal.Seal(nonce, nonce, x.body, []byte{byte(x.status >> 8), byte(x.status)}))
	}
	if err != nil {
		a.cfg.Log.ErrorContext(ctx, "the answer to a request with an idempotency key could not be kept", slog.String("asker", c.Owner), slog.String("error", err.Error()))
	}
	a.forgetReplies(ctx)
}

func (a *API) forgetReplies(ctx context.Context) {
	now := a.cfg.Now().UTC()
	a.mu.Lock()
	due := now.Sub(a.forget) >= forgetEvery
	if due {
		a.forget = now
	}
	a.mu.Unlock()
	if !due {
		return
	}
	if err := a.cfg.Replies.ForgetReplies(ctx, now); err != nil {
		a.cfg.Log.WarnContext(ctx, "expired replies stay for now", slog.String("error", err.Error()))
	}
}

func replay(seal cipher.AEAD, held bulkhead.Reply) (*answer, error) {
	n := seal.NonceSize()
	if len(held.Body) < n {
		return nil, fmt.Errorf("the reply kept for %s is too short", held.KeyHash)
	}
	body, err := seal.Open(nil, held.Body[:n], held.Body[n:], []byte{byte(held.Status >> 8), byte(held.Status)})
	if err != nil {
		return nil, fmt.Errorf("the reply kept for %s: %w", held.KeyHash, err)
	}
	x := &answer{status: held.Status, contentType: jsonType, body: body, replayed: true}
	if held.Status >= 400 {
		x.contentType = problemType
	}
	return x, nil
}

// sealing derives from the idempotency key what its answer is sealed with: an answer may hold a token, and the record
// does not hold the key.
func sealing(owner, key string) (cipher.AEAD, error) {
	k := digestOf("bulkhead reply seal v1", owner, key)
	block, err := aes.NewCipher(k[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// digestOf hashes parts so that no two lists of parts agree by accident.
func digestOf(parts ...string) bulkhead.Hash {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return bulkhead.Hash(h.Sum(nil))
}
