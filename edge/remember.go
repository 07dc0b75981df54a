package edge

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"bulkhead"
	"bulkhead/pki/pack"
)

// The cache directory holds "head", the last accepted head as signed, and by digest "objects".
func rememberedHead(dir string) string { return filepath.Join(dir, "head") }
func cachedObjects(dir string) string  { return filepath.Join(dir, "objects") }

// remembered reads the head of an earlier life. Its signature is not asked: it is our own file, and a change of the
// head key must not make an edge forget how far it had come. It is verified like any other before it is served.
func remembered(dir string) ([]byte, *pack.Head, error) {
	signed, err := os.ReadFile(rememberedHead(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, cacheTrouble(err)
	}
	var unverified *note.UnverifiedNoteError
	if _, err := note.Open(signed, note.VerifierList()); !errors.As(err, &unverified) {
		return nil, nil, damaged(dir, err)
	}
	head, err := pack.ParseHeadBody([]byte(unverified.Note.Text))
	if err != nil {
		return nil, nil, damaged(dir, err)
	}
	return signed, head, nil
}

func damaged(dir string, err error) error {
	return bulkhead.Faultf(bulkhead.KindConflict, "edge: the remembered head %s is damaged", rememberedHead(dir)).
		WithHint("it keeps a restarted edge from serving older answers; restore it, or delete it when the source is known to be current").
		WithCause(err)
}

func remember(dir string, signed []byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return cacheTrouble(err)
	}
	return writeFile(rememberedHead(dir), func(f *os.File) error {
		_, err := f.Write(signed)
		return err
	})
}

// prune deletes cached objects that the epoch does not name. Those still mapped stay readable until unmapped.
func (e *Edge) prune(ctx context.Context, ep *epoch) {
	if e.cfg.CacheDir == "" {
		return
	}
	files, err := os.ReadDir(cachedObjects(e.cfg.CacheDir))
	if err != nil {
		return // there are no copies when the source is a directory
	}
	for _, f := range files {
		if h, err := bulkhead.ParseHash(f.Name()); err == nil && ep.objects[h] != nil {
			continue
		}
		if err := os.Remove(filepath.Join(cachedObjects(e.cfg.CacheDir), f.Name())); err != nil {
			e.cfg.Log.WarnContext(ctx, "cached object stays", "error", err.Error())
		}
	}
}
