package kill

import (
	mrand "math/rand/v2"
	"os"
	"path/filepath"
)

// What becomes of a change in a power cut.
const (
	none = iota
	whole
	torn // some of its sectors
)

// sector is what a disk writes wholly or not at all, in octets.
const sector = 512

// content is what a file holds after what fate lets pass; r says which sectors of a torn write are there.
func (f *file) content(fate func(*change) int, r *mrand.Rand) []byte {
	b := append([]byte(nil), f.base...)
	for _, op := range f.ops {
		how := fate(op)
		switch {
		case how == none:
		case op.truncate && int(op.at) < len(b):
			b = b[:op.at]
		case op.truncate:
			b = append(b, make([]byte, int(op.at)-len(b))...)
		default:
			for at, end := int(op.at), int(op.at)+len(op.data); at < end; {
				to := min(end, at-at%sector+sector)
				if how == whole || r.IntN(2) == 0 {
					if len(b) < to {
						b = append(b, make([]byte, to-len(b))...)
					}
					copy(b[at:to], op.data[at-int(op.at):])
				}
				at = to
			}
		}
	}
	return b
}

// luck is how much of what nobody synced survives a power cut.
type luck int

const (
	worst luck = iota // nothing of it
	best              // all of it
	mixed             // of each file some, of each directory's names the first ones, as journals keep them
)

// cut builds into dir what a disk holds when the power goes right after line at of the trace: what was synced, and of the rest what
// luck leaves. ignored are files and directories whose syncs never reached the disk: a planted fault.
func (r *recording) cut(dir string, at int, l luck, rng *mrand.Rand, ignored func(path string) bool) error {
	files, dirs := map[string]*file{}, map[string]bool{}
	for p, f := range r.files {
		files[p] = f
	}
	for d := range r.dirs {
		dirs[d] = true
	}
	names := map[*file]string{} // some name of each file, for ignored
	for p, f := range r.live {
		names[f] = p
	}
	pending := map[string]int{} // of each directory, how many moves that are not durable survive; -1 when not drawn yet
	for _, n := range r.namings {
		if n.begin > at {
			break
		}
		if durable := n.synced > 0 && n.synced <= at && !(ignored != nil && ignored(n.dir)); !durable {
			left, drawn := pending[n.dir]
			if !drawn {
				left = rng.IntN(8)
			}
			pending[n.dir] = max(left-1, 0)
			if l == worst || l == mixed && left == 0 {
				continue
			}
		}
		apply(files, dirs, n)
	}
	for d := range dirs {
		if err := os.MkdirAll(r.moved(dir, d), 0o700); err != nil {
			return err
		}
	}
	for p, f := range files {
		fate := func(op *change) int {
			switch {
			case op.begin > at:
				return none
			case op.synced > 0 && op.synced <= at && !(ignored != nil && ignored(names[f])):
				return whole
			case l == worst:
				return none
			case l == best:
				return whole
			default:
				return rng.IntN(3)
			}
		}
		if !dirs[filepath.Dir(p)] {
			continue
		}
		if err := os.WriteFile(r.moved(dir, p), f.content(fate, rng), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (r *recording) moved(dir, p string) string { return dir + p[len(r.root):] }

func apply(files map[string]*file, dirs map[string]bool, n *naming) {
	if n.mkdir {
		dirs[n.to] = true
		return
	}
	if n.from != "" && n.to != "" && files[n.from] != n.file {
		return // what would be renamed did not survive
	}
	if n.from != "" {
		delete(files, n.from)
		delete(dirs, n.from)
	}
	if n.to != "" {
		files[n.to] = n.file
	}
}
