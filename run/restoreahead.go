package run

import (
	"context"
	"errors"
	"path/filepath"

	"bulkhead/evidence"
	"bulkhead/proof"
)

// ahead is the log of a backup, which is proved while the record, which stands behind it, is still read.
type ahead struct {
	cancel context.CancelFunc
	done   chan struct{}
	log    *evidence.Proved
	book   *proof.Book
	err    error // ErrAnew when something is wrong, or not as it has to be for this way
}

// startAhead begins with a log whose files are all written. stop must be called.
func startAhead(ctx context.Context, dir string) *ahead {
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{cancel: cancel, done: make(chan struct{}), book: proof.NewEarlyBook()}
	go func() {
		defer close(a.done)
		v, err := readVerifier(filepath.Join(dir, evidenceKey+".pub"))
		if err != nil {
			a.err = evidence.ErrAnew // as whoever reads it again will tell
			return
		}
		a.log, a.err = evidence.Prove(ctx, filepath.Join(dir, evidenceDir), v, a.book.Add)
	}()
	return a
}

// stop ends what is under way. Nil is one that was never begun.
func (a *ahead) stop() {
	if a != nil {
		a.cancel()
		<-a.done
	}
}

// wait is the proved log; nil when it has to be read with the rows, which tells what is wrong.
func (a *ahead) wait() (*evidence.Proved, *proof.Book, error) {
	if a == nil {
		return nil, nil, nil
	}
	<-a.done
	if errors.Is(a.err, evidence.ErrAnew) {
		return nil, nil, nil
	}
	return a.log, a.book, a.err
}
