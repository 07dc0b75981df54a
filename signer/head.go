package signer

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"fmt"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/keycheck"
	"bulkhead/pki/pack"
)

// SignHead implements Door: body must be a head in canonical encoding, named after our key, whose sequence is above
// that of the newest head in the record; KindMalformed and KindConflict otherwise.
func (s *Signer) SignHead(ctx context.Context, body []byte) ([]byte, error) {
	leave, err := s.enter()
	if err != nil {
		return nil, err
	}
	defer leave()
	s.heads.Lock()
	defer s.heads.Unlock()
	if s.cfg.HeadKeyURI == "" {
		return nil, bulkhead.NewFault(bulkhead.KindUnavailable, "this signer has no head key").WithHint("set HeadKeyURI and HeadName in the signer's configuration")
	}
	h, err := pack.ParseHeadBody(body)
	if err != nil {
		return nil, bulkhead.NewFault(bulkhead.KindMalformed, "this is no head").WithHint("build it with pki/pack").WithCause(err)
	}
	if h.Origin != s.cfg.HeadName {
		return nil, bulkhead.Faultf(bulkhead.KindMalformed, "the head's origin %q is not %q, the name of the head key", h.Origin, s.cfg.HeadName).WithHint("give status and signer the same name")
	}
	newest, err := s.cfg.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	if h.Sequence <= newest.Sequence {
		return nil, bulkhead.Faultf(bulkhead.KindConflict, "head %d is not above head %d", h.Sequence, newest.Sequence).WithHint("build the head again on the newest one: rollback is a forward move")
	}
	key, err := s.headSigner(ctx, h.Sequence)
	if err != nil {
		return nil, err
	}
	return pack.SignHead(body, key)
}

// HeadVerifier is what trusts heads signed by a key under a name: its text form is note.NewEd25519VerifierKey. It
// fails with KindBadPublicKey for a key that is not Ed25519.
func HeadVerifier(name string, public crypto.PublicKey) (note.Verifier, error) {
	pub, ok := public.(ed25519.PublicKey)
	if !ok {
		return nil, notEd25519()
	}
	text, err := note.NewEd25519VerifierKey(name, pub)
	if err != nil {
		return nil, fmt.Errorf("head key: %w", err)
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("head key %q: %w", name, err)
	}
	return v, nil
}

func notEd25519() *bulkhead.Fault {
	return bulkhead.NewFault(bulkhead.KindBadPublicKey, "the head key is not Ed25519").WithHint("make an Ed25519 key for the head")
}

// headKey signs notes with evidence around each signature.
type headKey struct {
	note.Verifier
	sign func(msg []byte) ([]byte, error)
}

// Sign implements note.Signer.
func (k *headKey) Sign(msg []byte) ([]byte, error) { return k.sign(msg) }

func (s *Signer) headSigner(ctx context.Context, sequence uint64) (note.Signer, error) {
	key, err := s.cfg.Keys.Open(ctx, s.cfg.HeadKeyURI)
	if err != nil {
		return nil, unavailable("the head key cannot be opened", err)
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, notEd25519()
	}
	spki, err := keycheck.SPKI(pub)
	if err != nil {
		return nil, err
	}
	verifier, err := HeadVerifier(s.cfg.HeadName, pub)
	if err != nil {
		return nil, err
	}
	sign := func(msg []byte) ([]byte, error) {
		b, err := s.newBatch("", keycheck.SPKIHash(spki), fmt.Sprintf("head %d", sequence))
		if err != nil {
			return nil, err
		}
		if err := s.announce(ctx, b, []bulkhead.Hash{bulkhead.Digest(msg)}); err != nil {
			return nil, err
		}
		signature, err := key.Sign(s.cfg.Rand, msg, crypto.Hash(0))
		if err != nil {
			return nil, unavailable("the head key did not sign", err)
		}
		if !ed25519.Verify(pub, msg, signature) {
			return nil, bulkhead.NewFault(bulkhead.KindInternal, "the head's signature does not verify")
		}
		return signature, s.conclude(ctx, b, []bulkhead.Hash{bulkhead.Digest(signature)})
	}
	return &headKey{verifier, sign}, nil
}
