package keys

import (
	"crypto"
	"io"
	"sync/atomic"

	"bulkhead"
)

// signer shows a key's public half and signs with it, and hides everything else.
type signer struct {
	public crypto.PublicKey
	inner  atomic.Pointer[crypto.Signer] // nil once destroyed
}

var _ crypto.Signer = (*signer)(nil)

func newSigner(inner crypto.Signer) *signer {
	s := &signer{public: inner.Public()}
	s.inner.Store(&inner)
	return s
}

// Public implements crypto.Signer.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign implements crypto.Signer; KindNotFound once the key was destroyed.
func (s *signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	inner := s.inner.Load()
	if inner == nil {
		return nil, bulkhead.NewFault(bulkhead.KindNotFound, "the key was destroyed").WithHint("open the key that follows it")
	}
	return (*inner).Sign(random, digest, opts)
}

// String keeps the key out of logs that print the signer with %v.
func (s *signer) String() string { return "signer" }

// GoString keeps the key out of logs that print the signer with %#v.
func (s *signer) GoString() string { return "signer" }

func (s *signer) destroy() { s.inner.Store(nil) }
