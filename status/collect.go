package status

import (
	"context"
	"log/slog"
	"time"

	"bulkhead"
	"bulkhead/pki/pack"
	"bulkhead/publish"
)

// collectable are the folders whose objects heads come to name no more. Certificates of authorities stay for ever:
// they are few, and certificates point at them.
var collectable = []string{"packs/", "crls/"}

// maxDeletes bounds one round of collection, which holds up the making of heads.
const maxDeletes = 1000

// collect deletes objects that no head of the last KeepObjects named. It looks rarely; when an object was last named is
// remembered from look to look, and after a restart counted afresh, except for objects so old that all they say has
// ended long ago. Never deleted: what the newest head of the store or the public head names.
func (s *Service) collect(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.busy() {
		return nil // a refresh puts objects that no head names yet
	}
	keep := s.cfg.Policy.KeepObjects
	if since := now.Sub(s.collected); since >= 0 && since < keep/8 {
		return nil
	}
	named, err := s.named(ctx)
	if err != nil {
		return err
	}
	over := keep + max(s.cfg.Policy.AnswerValidity, s.cfg.Policy.CRLValidity)
	unnamed, deleted := map[string]time.Time{}, 0
	for _, prefix := range collectable {
		objects, err := s.cfg.Objects.List(ctx, prefix)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if named[o.Name] {
				continue
			}
			since, known := s.unnamed[o.Name]
			if !known || since.After(now) {
				since = now
			}
			if deleted < maxDeletes && (now.Sub(since) >= keep || now.Sub(o.At) >= over) {
				if err := s.delete(ctx, o); err != nil {
					return err
				}
				deleted++
				continue
			}
			unnamed[o.Name] = since
		}
	}
	s.unnamed = unnamed
	if deleted < maxDeletes { // else there is more to do at the next look
		s.collected = now
	}
	s.ends.Range(func(name, _ any) bool {
		if !named[name.(string)] {
			s.ends.Delete(name)
		}
		return true
	})
	return nil
}

// busy reports whether a refresh is under way. None begins while mu is held by another.
func (s *Service) busy() bool {
	busy := false
	s.refreshing.Range(func(any, any) bool { busy = true; return false })
	return busy
}

func (s *Service) delete(ctx context.Context, o publish.Info) error {
	s.cfg.Log.InfoContext(ctx, "object deleted that no head names any more", slog.String("name", o.Name), slog.Int64("size", o.Size))
	return s.cfg.Objects.Delete(ctx, o.Name)
}

// named is what the newest head of the store and the public head name. A public head that cannot be read is an error:
// nothing is deleted on a guess.
func (s *Service) named(ctx context.Context) (map[string]bool, error) {
	out := map[string]bool{}
	rec, err := s.cfg.Store.Head(ctx)
	if err != nil {
		return nil, err
	}
	public, err := s.cfg.Objects.Head(ctx)
	if err != nil && bulkhead.KindOf(err) != bulkhead.KindNotFound {
		return nil, err
	}
	for _, signed := range [][]byte{rec.Body, public} {
		if len(signed) == 0 {
			continue
		}
		h, err := pack.OpenHead(signed, s.cfg.HeadVerifier)
		if err != nil {
			return nil, err
		}
		for _, ih := range h.Issuers {
			for _, ref := range ih.Packs {
				out[ref.Name] = true
			}
			for _, ref := range ih.CRLs {
				out[ref.Name] = true
			}
		}
	}
	return out, nil
}
