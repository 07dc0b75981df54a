package sqlite

import (
	"errors"
	"sync"
	"unsafe"

	"modernc.org/libc"
	"modernc.org/libc/sys/types"
	codes "modernc.org/sqlite/lib"
)

// SQLite writes each page of a commit to the write-ahead log by two calls to the system, one for the 24 octets before it: some hundred for an
// order. gather is the system's own VFS, but what SQLite appends to such a log is kept until SQLite wants it on the disk, and then written by
// one call.
//
// Nobody can miss what is kept. With synchronous=FULL a commit has the log synced before it says in the log's index where the log ends
// (https://sqlite.org/walformat.html), and whoever reads the log reads no further. The connection itself reads what it has spilt of a large
// transaction: before that it is written. An error of the write is an error of the sync: the commit fails, as when SQLite itself cannot write.
const gather = "bulkhead-gather"

// gatherMost is what is kept of one log: 31 frames. SQLite hands the system less than 128 KiB by one call.
const gatherMost = 31 * (24 + 4096)

var gathering struct {
	system codes.Tsqlite3_vfs // SQLite's own

	mu   sync.Mutex
	file codes.Tsqlite3_io_methods // SQLite's own, of every log
	log  uintptr                   // ours, where SQLite looks for them
	logs map[uintptr]*logFile      // by the address of SQLite's file
}

// logFile is a write-ahead log that one connection has open.
type logFile struct {
	from int64   // where in the log what is kept begins
	kept uintptr // gatherMost octets of SQLite's memory
	n    int32   // of which are kept
}

// The functions of a VFS and of its files that are not SQLite's own here.
type (
	openFunc  = func(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32
	closeFunc = func(tls *libc.TLS, file uintptr) int32
	moveFunc  = func(tls *libc.TLS, file, memory uintptr, n int32, at int64) int32
	cutFunc   = func(tls *libc.TLS, file uintptr, size int64) int32
	syncFunc  = func(tls *libc.TLS, file uintptr, flags int32) int32
	sizeFunc  = func(tls *libc.TLS, file, size uintptr) int32
)

// called is the function at an address that SQLite has of it, and address the other way: to SQLite a function is the word that Go has of it.
func called[F any](address uintptr) F { return *(*F)(unsafe.Pointer(&address)) }
func address[F any](f F) uintptr      { return *(*uintptr)(unsafe.Pointer(&f)) }

// at is what stands at an address of SQLite's memory, and lasting puts a copy of something there for good.
func at[T any](address uintptr) *T { return *(**T)(unsafe.Pointer(&address)) }

func lasting[T any](tls *libc.TLS, v T) (address uintptr) {
	if address = libc.Xcalloc(tls, 1, types.Size_t(unsafe.Sizeof(v))); address != 0 {
		*at[T](address) = v
	}
	return address
}

// registerGather makes the VFS known to SQLite.
var registerGather = sync.OnceValue(func() error {
	tls := libc.NewTLS()
	defer tls.Close()
	system := codes.Xsqlite3_vfs_find(tls, 0)
	if system == 0 {
		return errors.New("SQLite has no VFS")
	}
	name, err := libc.CString(gather)
	if err != nil {
		return err
	}
	g := &gathering
	g.logs, g.system = map[uintptr]*logFile{}, *at[codes.Tsqlite3_vfs](system)
	vfs := g.system
	vfs.FzName, vfs.FpNext, vfs.FxOpen = name, 0, address[openFunc](gatherOpen)
	if kept := lasting(tls, vfs); kept == 0 || codes.Xsqlite3_vfs_register(tls, kept, 0) != codes.SQLITE_OK {
		return errors.New("SQLite refuses a VFS")
	}
	return nil
})

func gatherOpen(tls *libc.TLS, vfs, name, file uintptr, flags int32, out uintptr) int32 {
	g := &gathering
	rc := called[openFunc](g.system.FxOpen)(tls, vfs, name, file, flags, out)
	if rc != codes.SQLITE_OK || flags&codes.SQLITE_OPEN_WAL == 0 {
		return rc
	}
	methods := &at[codes.Tsqlite3_file](file).FpMethods
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.log == 0 {
		g.file = *at[codes.Tsqlite3_io_methods](*methods)
		log := g.file
		log.FxClose, log.FxRead, log.FxWrite = address[closeFunc](logClose), address[moveFunc](logRead), address[moveFunc](logWrite)
		log.FxTruncate, log.FxSync, log.FxFileSize = address[cutFunc](logTruncate), address[syncFunc](logSync), address[sizeFunc](logSize)
		g.log = lasting(tls, log)
	}
	l := &logFile{kept: libc.Xmalloc(tls, gatherMost)}
	if g.log == 0 || l.kept == 0 { // no memory: each page is written when SQLite writes it
		libc.Xfree(tls, l.kept)
		return rc
	}
	g.logs[file], *methods = l, g.log
	return rc
}

// logOf is the log of a file; its connection alone uses it.
func logOf(file uintptr) *logFile {
	gathering.mu.Lock()
	defer gathering.mu.Unlock()
	return gathering.logs[file]
}

func logWrite(tls *libc.TLS, file, memory uintptr, n int32, at int64) int32 {
	l := logOf(file)
	if at != l.from+int64(l.n) || n > gatherMost-l.n {
		if rc := l.write(tls, file); rc != codes.SQLITE_OK {
			return rc
		}
		l.from = at
	}
	if n > gatherMost {
		return called[moveFunc](gathering.file.FxWrite)(tls, file, memory, n, at)
	}
	libc.Xmemcpy(tls, l.kept+uintptr(l.n), memory, types.Size_t(n))
	l.n += n
	return codes.SQLITE_OK
}

// write hands the system what is kept.
func (l *logFile) write(tls *libc.TLS, file uintptr) int32 {
	n := l.n
	if l.n = 0; n == 0 {
		return codes.SQLITE_OK
	}
	return called[moveFunc](gathering.file.FxWrite)(tls, file, l.kept, n, l.from)
}

func logSync(tls *libc.TLS, file uintptr, flags int32) int32 {
	if rc := logOf(file).write(tls, file); rc != codes.SQLITE_OK {
		return rc
	}
	return called[syncFunc](gathering.file.FxSync)(tls, file, flags)
}

func logRead(tls *libc.TLS, file, memory uintptr, n int32, at int64) int32 {
	if rc := logOf(file).write(tls, file); rc != codes.SQLITE_OK {
		return rc
	}
	return called[moveFunc](gathering.file.FxRead)(tls, file, memory, n, at)
}

func logTruncate(tls *libc.TLS, file uintptr, size int64) int32 {
	if rc := logOf(file).write(tls, file); rc != codes.SQLITE_OK {
		return rc
	}
	return called[cutFunc](gathering.file.FxTruncate)(tls, file, size)
}

func logSize(tls *libc.TLS, file, size uintptr) int32 {
	if rc := logOf(file).write(tls, file); rc != codes.SQLITE_OK {
		return rc
	}
	return called[sizeFunc](gathering.file.FxFileSize)(tls, file, size)
}

// logClose writes nothing: what was committed was synced.
func logClose(tls *libc.TLS, file uintptr) int32 {
	libc.Xfree(tls, logOf(file).kept)
	gathering.mu.Lock()
	delete(gathering.logs, file)
	gathering.mu.Unlock()
	return called[closeFunc](gathering.file.FxClose)(tls, file)
}
