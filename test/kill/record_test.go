package kill

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// recordedCalls are all by which a process makes, changes, names or syncs files, and those by which it tells the world.
const recordedCalls = "open,openat,creat,close,lseek,write,pwrite64,writev,pwritev,pwritev2,sendto,sendmsg,sendfile,splice,copy_file_range,fsync,fdatasync,syncfs,sync_file_range," +
	"truncate,ftruncate,fallocate,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir"

// recordArgs are strace's, to record what a command does to files; the command follows.
func recordArgs(log string) []string {
	return []string{"-f", "-y", "-xx", "--seccomp-bpf", "-s", "16777216", "-e", "signal=none", "-e", "trace=" + recordedCalls, "-o", log}
}

// file is one file, whatever it is called.
type file struct {
	base []byte
	ops  []*change
	size int64 // as the process sees it
}

// change is one write or truncation, between its begin and its end in the trace, counted in lines.
type change struct {
	begin, end int
	synced     int // end of the first sync that began after it, 0 when none did
	at         int64
	data       []byte
	truncate   bool // to at
}

// naming is one move in the names of a directory. A rename has from and to.
type naming struct {
	begin, end int
	synced     int
	dir        string // where it happens, and of a rename where it leads
	from, to   string // paths; to is made, from is taken away
	file       *file  // that to names; nil for a directory
	mkdir      bool
}

// handout is a checkpoint that somebody outside the process could see from a moment on.
type handout struct {
	at   int
	text string
}

// recording is what a process did to a directory, from a state at rest on.
type recording struct {
	root     string
	files    map[string]*file // at the beginning
	dirs     map[string]bool
	namings  []*naming
	live     map[string]*file // at the end
	liveDirs map[string]bool
	pos      map[string]int64 // of open files, by number
	append   map[string]bool  // and whether they were opened to be appended to
	through  map[string]bool  // or so that each write is a sync
	moments  []int            // ends of calls that changed or synced something
	end      int
	handouts []handout
	syncs    int
}

// snapshot reads a directory at rest, which is taken for durable.
func snapshot(root string) (*recording, error) {
	r := &recording{root: root, files: map[string]*file{}, dirs: map[string]bool{}, live: map[string]*file{}, liveDirs: map[string]bool{}, pos: map[string]int64{}, append: map[string]bool{}, through: map[string]bool{}}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir():
			r.dirs[path], r.liveDirs[path] = true, true
			return nil
		case !e.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		f := &file{base: b, size: int64(len(b))}
		r.files[path], r.live[path] = f, f
		return err
	})
	return r, err
}

// call is one finished system call.
type call struct {
	begin, end int
	name       string
	args       []string
	ret        int64
}

var (
	lineOf    = regexp.MustCompile(`^(\d+) +(.*)$`)
	resumed   = regexp.MustCompile(`^<\.\.\. (\w+) resumed>(.*)$`)
	fdOf      = regexp.MustCompile(`^(-?\d+|AT_FDCWD)(?:<(.*)>)?(?:\(deleted\))?$`)
	vectorsOf = regexp.MustCompile(`iov_base="([^"]*)"`)
)

// read goes through a trace. What it does not know how to model is an error, never passed over.
func (r *recording) read(trace string) error {
	f, err := os.Open(trace)
	if err != nil {
		return err
	}
	defer f.Close()
	type begun struct {
		line int
		text string
	}
	open := map[string]begun{}
	in := bufio.NewReaderSize(f, 1<<20)
	for line := 1; ; line++ {
		text, err := in.ReadString('\n')
		if err != nil {
			break // a line without its end was cut off by the kill
		}
		r.end = line
		m := lineOf.FindStringSubmatch(strings.TrimSuffix(text, "\n"))
		if m == nil {
			continue
		}
		pid, rest := m[1], m[2]
		begin := line
		if head, ok := strings.CutSuffix(rest, " <unfinished ...>"); ok {
			open[pid] = begun{line, head}
			continue
		}
		if m := resumed.FindStringSubmatch(rest); m != nil {
			b, ok := open[pid]
			if !ok {
				continue
			}
			delete(open, pid)
			begin, rest = b.line, b.text+m[2]
		}
		c, ok := parseCall(rest)
		if !ok || c.ret < 0 {
			continue // it failed, or was not a call
		}
		c.begin, c.end = begin, line
		if err := r.apply(c); err != nil {
			return fmt.Errorf("line %d of the trace: %s: %w", line, c.name, err)
		}
	}
	return nil
}

func parseCall(text string) (c call, ok bool) {
	name, rest, found := strings.Cut(text, "(")
	at := strings.LastIndex(rest, ") ")
	if !found || at < 0 {
		return c, false
	}
	_, ret, found := strings.Cut(rest[at:], "= ")
	if !found {
		return c, false
	}
	ret, _, _ = strings.Cut(ret, " ")
	ret, _, _ = strings.Cut(ret, "<")
	n, err := strconv.ParseInt(ret, 0, 64)
	return call{name: name, args: strings.Split(rest[:at], ", "), ret: n}, err == nil
}

// text decodes a string of strace -xx.
func text(quoted string) []byte {
	quoted = strings.TrimSuffix(strings.TrimPrefix(quoted, `"`), `"`)
	b, _ := hex.DecodeString(strings.ReplaceAll(quoted, `\x`, "")) // a string that is cut short ends in dots, and no call of ours is so long
	return b
}

// fd is a descriptor's number and path.
func fd(arg string) (number, path string) {
	m := fdOf.FindStringSubmatch(arg)
	if m == nil {
		return "", ""
	}
	return m[1], string(text(m[2]))
}

// path resolves a name beside a directory's descriptor.
func path(dir, name string) string {
	p := string(text(name))
	if !filepath.IsAbs(p) {
		_, at := fd(dir)
		p = filepath.Join(at, p)
	}
	return filepath.Clean(p)
}

func (r *recording) ours(path string) bool {
	return path == r.root || strings.HasPrefix(path, r.root+"/")
}

func (r *recording) apply(c call) error {
	switch c.name {
	case "open":
		return r.open(c, string(text(c.args[0])), c.args[1])
	case "creat", "symlink", "truncate":
		if p := string(text(c.args[0])); r.ours(p) {
			return fmt.Errorf("not modelled, on %s", p)
		}
	case "openat":
		return r.open(c, path(c.args[0], c.args[1]), c.args[2])
	case "lseek":
		if n, p := fd(c.args[0]); r.ours(p) {
			r.pos[n] = c.ret
		}
	case "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg":
		return r.write(c)
	case "sendfile", "fallocate", "sync_file_range", "syncfs":
		return r.unknown(c.args[0])
	case "splice", "copy_file_range":
		return r.unknown(c.args[2]) // where it writes
	case "fsync", "fdatasync":
		_, p := fd(c.args[0])
		r.sync(c, p)
	case "ftruncate":
		if _, p := fd(c.args[0]); r.live[p] != nil {
			n, err := strconv.ParseInt(c.args[1], 0, 64)
			r.truncate(c, r.live[p], n)
			return err
		}
	case "rename":
		return r.rename(c, string(text(c.args[0])), string(text(c.args[1])))
	case "renameat", "renameat2":
		return r.rename(c, path(c.args[0], c.args[1]), path(c.args[2], c.args[3]))
	case "link":
		r.link(c, string(text(c.args[0])), string(text(c.args[1])))
	case "linkat":
		r.link(c, path(c.args[0], c.args[1]), path(c.args[2], c.args[3]))
	case "unlink", "rmdir":
		r.unlink(c, string(text(c.args[0])))
	case "unlinkat":
		r.unlink(c, path(c.args[0], c.args[1]))
	case "mkdir":
		r.mkdir(c, string(text(c.args[0])))
	case "mkdirat":
		r.mkdir(c, path(c.args[0], c.args[1]))
	}
	return nil
}

// unknown refuses what is not modelled, on a file of ours.
func (r *recording) unknown(arg string) error {
	if _, p := fd(arg); p != "" && r.ours(p) {
		return fmt.Errorf("not modelled, on %s", p)
	}
	return nil
}

func (r *recording) open(c call, p, flags string) error {
	if !r.ours(p) {
		return nil
	}
	n := strconv.FormatInt(c.ret, 10)
	f := r.live[p]
	switch {
	case strings.Contains(flags, "O_TMPFILE"), strings.Contains(flags, "O_DIRECT") && !strings.Contains(flags, "O_DIRECTORY"):
		return fmt.Errorf("%s is not modelled, on %s", flags, p)
	case f == nil && strings.Contains(flags, "O_CREAT"):
		f = &file{}
		r.live[p] = f
		r.name(c, &naming{dir: filepath.Dir(p), to: p, file: f})
	case f != nil && strings.Contains(flags, "O_TRUNC") && f.size > 0:
		r.truncate(c, f, 0)
	}
	r.pos[n], r.append[n], r.through[n] = 0, strings.Contains(flags, "O_APPEND"), strings.Contains(flags, "O_SYNC") || strings.Contains(flags, "O_DSYNC")
	return nil
}

func (r *recording) write(c call) error {
	n, p := fd(c.args[0])
	var data []byte
	if strings.HasSuffix(c.name, "64") || c.name == "write" || c.name == "sendto" {
		data = text(c.args[1])
	} else {
		for _, m := range vectorsOf.FindAllStringSubmatch(strings.Join(c.args, ", "), -1) {
			data = append(data, text(m[1])...)
		}
	}
	if int64(len(data)) < c.ret {
		return fmt.Errorf("%d octets of %d are in the trace", len(data), c.ret)
	}
	data = data[:c.ret]
	f := r.live[p]
	if f == nil {
		if r.ours(p) {
			return nil // its name is gone: nothing of it survives
		}
		if said, ok := strings.CutPrefix(string(data), handedOut); ok {
			r.handouts = append(r.handouts, handout{c.end, said})
		}
		return nil
	}
	at := r.pos[n]
	switch {
	case strings.HasPrefix(c.name, "pwrite"):
		var err error
		if at, err = strconv.ParseInt(c.args[len(c.args)-1], 0, 64); err != nil {
			return err
		}
	case r.append[n]:
		at = f.size
		r.pos[n] = at + c.ret
	default:
		r.pos[n] += c.ret
	}
	op := &change{begin: c.begin, end: c.end, at: at, data: data}
	if r.through[n] {
		op.synced = c.end
	}
	f.ops = append(f.ops, op)
	f.size = max(f.size, at+c.ret)
	r.moments = append(r.moments, c.end)
	return nil
}

func (r *recording) truncate(c call, f *file, n int64) {
	f.ops = append(f.ops, &change{begin: c.begin, end: c.end, at: n, truncate: true})
	f.size = n
	r.moments = append(r.moments, c.end)
}

// sync makes durable what had ended before it began.
func (r *recording) sync(c call, p string) {
	r.syncs++
	r.moments = append(r.moments, c.end)
	if f := r.live[p]; f != nil {
		for _, op := range f.ops {
			if op.synced == 0 && op.end < c.begin {
				op.synced = c.end
			}
		}
	}
	for _, n := range r.namings {
		if n.dir == p && n.synced == 0 && n.end < c.begin {
			n.synced = c.end
		}
	}
}

func (r *recording) name(c call, n *naming) {
	n.begin, n.end = c.begin, c.end
	r.namings = append(r.namings, n)
	r.moments = append(r.moments, c.end)
}

func (r *recording) rename(c call, from, to string) error {
	if !r.ours(from) && !r.ours(to) {
		return nil
	}
	f := r.live[from]
	if f == nil {
		return fmt.Errorf("not modelled: %s becomes %s", from, to)
	}
	delete(r.live, from)
	r.live[to] = f
	r.name(c, &naming{dir: filepath.Dir(to), from: from, to: to, file: f})
	r.shown(c, to, f)
	return nil
}

func (r *recording) link(c call, from, to string) {
	if f := r.live[from]; f != nil && r.ours(to) {
		r.live[to] = f
		r.name(c, &naming{dir: filepath.Dir(to), to: to, file: f})
		r.shown(c, to, f)
	}
}

// shown takes note of a checkpoint that appears under its public name: from here on others can read it, whatever the disk has.
func (r *recording) shown(c call, to string, f *file) {
	if filepath.Base(to) == "checkpoint" {
		r.handouts = append(r.handouts, handout{c.end, string(f.content(func(*change) int { return whole }, nil))})
	}
}

func (r *recording) unlink(c call, p string) {
	if r.live[p] != nil || r.liveDirs[p] {
		delete(r.live, p)
		delete(r.liveDirs, p)
		r.name(c, &naming{dir: filepath.Dir(p), from: p})
	}
}

func (r *recording) mkdir(c call, p string) {
	if r.ours(p) {
		r.liveDirs[p] = true
		r.name(c, &naming{dir: filepath.Dir(p), to: p, mkdir: true})
	}
}
