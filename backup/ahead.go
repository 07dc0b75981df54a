package backup

import "io"

const (
	aheadChunks = 8
	aheadChunk  = 256 << 10 // octets
)

// ahead reads from another reader in a goroutine of its own, some chunks in advance: opening the seal takes as long as what is done
// with what is inside. Memory is aheadChunks chunks. stop must be called.
type ahead struct {
	full  chan piece
	empty chan []byte
	done  chan struct{}
	ended chan struct{}
	rest  []byte
	all   []byte // the chunk that rest is part of
	err   error
}

type piece struct {
	b   []byte
	err error
}

func readAhead(r io.Reader) *ahead {
	a := &ahead{full: make(chan piece, aheadChunks), empty: make(chan []byte, aheadChunks), done: make(chan struct{}), ended: make(chan struct{})}
	for range aheadChunks {
		a.empty <- nil
	}
	go func() {
		defer close(a.ended)
		for {
			var b []byte
			select {
			case b = <-a.empty:
			case <-a.done:
				return
			}
			if b == nil {
				b = make([]byte, aheadChunk)
			}
			n, err := fill(r, b[:aheadChunk])
			a.full <- piece{b[:n], err} // never waits: there are as many places as chunks
			if err != nil {
				return
			}
		}
	}()
	return a
}

// fill reads until p is full, and returns the reader's own error: a stream that was cut off must not end as one that was not.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// Read implements io.Reader.
func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.all != nil {
			a.empty <- a.all
		}
		x := <-a.full
		a.all, a.rest, a.err = x.b, x.b, x.err
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// stop ends the goroutine, and waits for a read that is under way.
func (a *ahead) stop() {
	close(a.done)
	<-a.ended
}
