package sqlite

import (
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// walIndex reads the header of the wal-index, the file beside the database that ends in -shm, without a call to the system: SQLite keeps
// there what of the write-ahead log is committed, mapped into the memory of every process that has the database open
// (https://sqlite.org/walformat.html, section 2). A commit, by whichever process, can be read by others from the moment on when the header
// says so, and each connection asks the header whether its cache still holds. It keeps a connection of its own, idle, so that the file
// stays the same one while it is open.
type walIndex struct {
	held *sql.DB

	mu   sync.RWMutex // held to write while the memory goes
	file *indexFile   // nil when it is closed
}

// walHeader is the header: equal ones mean the same log with the same commits.
type walHeader [6]uint64

// change is moved by each commit.
func (h *walHeader) change() uint32 { return h.field(2) }

// frames is where the last commit ends in the log.
func (h *walHeader) frames() uint32 { return h.field(4) }

// field is a 32-bit word of the header, which is in the machine's own order.
func (h *walHeader) field(i int) uint32 {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], h[i/2])
	return binary.NativeEndian.Uint32(b[i%2*4:])
}

const (
	walIndexVersion = 3007000
	// walIndexWords are two copies of the header and the first word of what checkpoints keep, in words of 8 octets.
	walIndexWords = 2*len(walHeader{}) + 1
)

// openIndex maps the wal-index of the database at path, which is open and has one.
func openIndex(path string) (x *walIndex, err error) {
	x = &walIndex{}
	if x.held, err = sql.Open("sqlite", dsn(path, "deferred", "query_only(1)")); err != nil {
		return nil, err
	}
	x.held.SetMaxOpenConns(1)
	if err = x.held.QueryRow("SELECT COUNT(*) FROM sqlite_schema").Scan(new(int64)); err == nil {
		x.file, err = openIndexFile(path + "-shm")
	}
	if err != nil {
		return nil, errors.Join(err, x.held.Close())
	}
	return x, nil
}

// header returns the header; ok is false while a commit is entering it, and when there is none that can be read.
func (x *walIndex) header() (h walHeader, ok bool) {
	w, ok := x.words()
	h = walHeader(w[:len(h)])
	return h, ok && h == walHeader(w[len(h):2*len(h)]) && h.field(0) == walIndexVersion
}

// unmoved is how many committed frames of the log no checkpoint has moved to the database.
func (x *walIndex) unmoved() int64 {
	w, ok := x.words()
	if !ok {
		return 0
	}
	h, moved := walHeader(w[:len(walHeader{})]), walHeader{w[walIndexWords-1]}
	return int64(h.frames()) - int64(moved.field(0)) // each is read whole; a log that is being begun anew gives less than none
}

// words copies the memory, word by word in the order in which SQLite reads it. Whoever cut the file would end SQLite too, which has it
// mapped as well; here it is an index that cannot be read.
func (x *walIndex) words() (w [walIndexWords]uint64, ok bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.file == nil {
		return w, false
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { ok = recover() == nil }()
	for i := range w {
		w[i] = atomic.LoadUint64(&x.file.words[i])
	}
	return w, true
}

// close is for after the last connection of the store.
func (x *walIndex) close() error {
	err := x.held.Close()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.file != nil {
		x.file.leave()
		x.file = nil
	}
	return err
}

// indexFile is a mapped -shm file of this process. To close a descriptor of such a file ends all locks that SQLite in this process has
// on it (POSIX has it so), whichever connection took them. So the one descriptor serves all who open the file here, and is closed only when
// the file is gone, which SQLite removes with the last connection of the last process.
type indexFile struct {
	file  *os.File
	info  os.FileInfo
	mem   []byte
	words *[walIndexWords]uint64
	users int
}

var indexFiles struct {
	sync.Mutex
	all []*indexFile
}

func openIndexFile(path string) (*indexFile, error) {
	indexFiles.Lock()
	defer indexFiles.Unlock()
	closeGone()
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	for _, f := range indexFiles.all {
		if os.SameFile(f.info, info) && f.words != nil {
			f.users++
			return f, nil
		}
	}
	f := &indexFile{}
	if f.file, err = os.Open(path); err != nil {
		return nil, err
	}
	indexFiles.all = append(indexFiles.all, f) // also when it is of no use: it may not be closed
	if f.info, err = f.file.Stat(); err != nil {
		return nil, err
	}
	if f.info.Size() < int64(os.Getpagesize()) {
		return nil, fmt.Errorf("%s has %d octets, too few for an index of the log", path, f.info.Size())
	}
	if f.mem, err = unix.Mmap(int(f.file.Fd()), 0, os.Getpagesize(), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, err
	}
	f.words, f.users = (*[walIndexWords]uint64)(unsafe.Pointer(&f.mem[0])), 1
	return f, nil
}

// leave says that a user is done.
func (f *indexFile) leave() {
	indexFiles.Lock()
	defer indexFiles.Unlock()
	f.users--
	closeGone()
}

// closeGone closes the files that nobody uses and that are not there any more.
func closeGone() {
	indexFiles.all = slices.DeleteFunc(indexFiles.all, func(f *indexFile) bool {
		var st unix.Stat_t
		if f.users > 0 || unix.Fstat(int(f.file.Fd()), &st) != nil || st.Nlink > 0 {
			return false
		}
		_ = unix.Munmap(f.mem) // read-only memory, nothing to lose
		f.file.Close()
		return true
	})
}
