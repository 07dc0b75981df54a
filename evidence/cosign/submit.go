package cosign

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"bulkhead/pki/tlog"
)

const (
	timeout   = 10 * time.Second // of one request
	maxAnswer = 16 << 10
	sizeType  = "text/x.tlog.size" // C2SP tlog-witness
)

// Reply is what a witness said.
type Reply struct {
	Status int
	Type   string // Content-Type
	Body   []byte
}

// Post sends one add-checkpoint request to the witness at a prefix.
type Post func(ctx context.Context, url string, body []byte) (Reply, error)

// HTTP is Post over the network. Without private it dials public addresses by https only.
func HTTP(private bool) Post {
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("address %q: %w", address, err)
		}
		if a := at.Addr().Unmap(); !private && (!a.IsGlobalUnicast() || a.IsPrivate()) {
			return fmt.Errorf("%s is not an address of the public network", a)
		}
		return nil
	}}
	client := &http.Client{Timeout: timeout,
		Transport:     &http.Transport{DialContext: dialer.DialContext, TLSHandshakeTimeout: 5 * time.Second, MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return func(ctx context.Context, url string, body []byte) (Reply, error) {
		if !private && !strings.HasPrefix(url, "https://") {
			return Reply{}, errors.New("not an https address")
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/add-checkpoint", bytes.NewReader(body))
		if err != nil {
			return Reply{}, err
		}
		res, err := client.Do(req)
		if err != nil {
			return Reply{}, err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
		if err == nil && len(text) > maxAnswer {
			err = fmt.Errorf("the answer is longer than %d octets", maxAnswer)
		}
		return Reply{Status: res.StatusCode, Type: res.Header.Get("Content-Type"), Body: text}, err
	}
}

// answer is the outcome of one witness in one round.
type answer struct {
	done bool // it had cosigned this checkpoint before
	sig  tlog.Cosignature
	err  error
}

// conflict says that a witness knows a history that ours does not extend.
type conflict struct{ text string }

func (e *conflict) Error() string { return e.text }

// tries at one witness in a round: it may know another size than we think, once.
const tries = 3

func (f *Feeder) submit(ctx context.Context, w tlog.PolicyWitness, old int64, cp tlog.Checkpoint, signed []byte) answer {
	read := func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(f.cfg.Log, path)) }
	for range tries {
		if old > cp.Size {
			return answer{err: &conflict{fmt.Sprintf("it has cosigned a log of %d leaves, ours has %d", old, cp.Size)}}
		}
		proof, err := tlog.ProveConsistency(read, old, cp)
		if err != nil {
			return answer{err: err}
		}
		reply, err := f.cfg.Post(ctx, w.URL, tlog.AddCheckpoint{Old: old, Proof: proof, Note: signed}.Marshal())
		if err != nil {
			return answer{err: err}
		}
		if reply.Status == http.StatusConflict && reply.Type == sizeType {
			size, err := strconv.ParseInt(strings.TrimSuffix(string(reply.Body), "\n"), 10, 64)
			if err != nil || size < 0 || size == old {
				return answer{err: errors.New("it answers a conflict of sizes with none")}
			}
			old = size
			continue
		}
		return f.judgeReply(w, old, cp, signed, reply)
	}
	return answer{err: errors.New("it names another size each time")}
}

func (f *Feeder) judgeReply(w tlog.PolicyWitness, old int64, cp tlog.Checkpoint, signed []byte, r Reply) answer {
	switch r.Status {
	case http.StatusOK:
		_, sigs, err := tlog.Cosignatures(append(signed[:len(signed):len(signed)], r.Body...), cp.Origin, f.cfg.Verifier, []*tlog.Witness{w.Key})
		if err != nil || len(sigs) != 1 {
			return answer{err: fmt.Errorf("%w: %w", tlog.ErrCosignature, errors.Join(err, errors.New("the answer is not a cosignature by its key")))}
		}
		return answer{sig: sigs[0]}
	case http.StatusConflict:
		return answer{err: &conflict{fmt.Sprintf("it has seen another root of %d leaves", cp.Size)}}
	case http.StatusUnprocessableEntity:
		return answer{err: &conflict{fmt.Sprintf("our %d leaves do not begin with the %d that it knows", cp.Size, old)}}
	case http.StatusNotFound, http.StatusForbidden:
		return answer{err: fmt.Errorf("it does not take our log (status %d): give its operator the log's verifier key", r.Status)}
	}
	return answer{err: fmt.Errorf("status %d", r.Status)}
}
