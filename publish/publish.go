// Package publish keeps what the world may fetch: immutable named objects with a type and a lifetime, and one small
// mutable object, the head, that names them.
//
// Invariant: once Put has returned, the object is durable and a name never means other bytes; a reader sees an object
// whole or not at all, and one head or the next.
//
// Refuses: other bytes under a taken name, names that are not plain relative paths, a second mutable object.
package publish

import (
	"context"
	"io"
	"regexp"
	"time"

	"bulkhead"
)

// Object is what Put publishes.
type Object struct {
	Name         string        // see CheckName
	Type         string        // media type, for example application/pkix-crl
	CacheControl string        // HTTP Cache-Control that goes with the object; "" leaves it to whoever serves it
	SurrogateKey string        // purge key for cache tiers; "" when there is none
	Body         io.ReadSeeker // read from its start to its end, possibly more than once
}

// Info describes a stored object.
type Info struct {
	Name string
	Size int64     // octets
	At   time.Time // when it was stored
}

// Reader is the read side: all that an edge may see.
type Reader interface {
	// Get returns a whole object; KindNotFound when there is none.
	Get(ctx context.Context, name string) ([]byte, error)
	// Open streams an object of size octets; KindNotFound when there is none.
	Open(ctx context.Context, name string) (body io.ReadCloser, size int64, err error)
	// Head returns the signed head; KindNotFound before the first.
	Head(ctx context.Context) ([]byte, error)
}

// Store is the whole port. Errors are Faults; anything that is not the caller's doing is KindUnavailable.
type Store interface {
	Reader
	// Put stores an object durably. The same name with the same bytes succeeds and changes nothing; with other
	// bytes it is KindConflict; a bad name is KindMalformed.
	Put(ctx context.Context, o Object) error
	// SetHead replaces the head durably and atomically.
	SetHead(ctx context.Context, signed []byte) error
	// List returns the objects whose name begins with prefix, by name; the head is not among them.
	List(ctx context.Context, prefix string) ([]Info, error)
	// Delete removes an object; one that is not there is no error.
	Delete(ctx context.Context, name string) error
}

// Drafter is a Store in which a large object can be written where it will lie: it need not be copied there.
type Drafter interface {
	// Draft begins an object. Nobody sees it before it was the Body of a Put; then it is not written any more.
	Draft(ctx context.Context) (Draft, error)
}

// Draft is an object in the making. Close lets go of it: what was not published is gone then.
type Draft interface {
	io.Writer
	io.ReadSeeker
	io.Closer
}

// MaxName is the longest object name in octets.
const MaxName = 200

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*$`)

// CheckName refuses what could leave the store or mean two things: names are segments of a-z, 0-9, '.', '_' and '-',
// each beginning with a letter or digit, joined by '/', at most MaxName octets. "head" is taken. KindMalformed.
func CheckName(name string) error {
	if len(name) > MaxName || name == headName || !nameRule.MatchString(name) {
		return bulkhead.Faultf(bulkhead.KindMalformed, "%.220q is not an object name", name).
			WithHint("use lower-case letters, digits, '.', '_', '-' and '/', for example packs/issuing-p256/1.pack")
	}
	return nil
}

const headName = "head"
