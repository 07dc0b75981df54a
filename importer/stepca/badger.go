package stepca

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/dgraph-io/badger/v2"
	"github.com/dgraph-io/badger/v2/options"

	"bulkhead"
)

// manifest is the file that every badger database has.
const manifest = "MANIFEST"

// badger walks a table of the database.
func (s *Source) badger(ctx context.Context, table string, each func(line int, key, value []byte)) (err error) {
	if _, err := os.Stat(filepath.Join(s.path, manifest)); err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s is no badger database: it has no file %s", s.path, manifest).WithCause(err).
			WithHint("give the folder that db.dataSource of step-ca's ca.json names, or a dump of its tables")
	}
	db, done, err := s.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	prefix := encode(nil, table)
	return db.View(func(tx *badger.Txn) error {
		opts := badger.DefaultIteratorOptions
		opts.Prefix = prefix
		it := tx.NewIterator(opts)
		defer it.Close()
		line := 0
		for it.Rewind(); it.ValidForPrefix(prefix); it.Next() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if len(it.Item().Key()) == len(prefix) {
				continue // the mark that says that the table is there
			}
			line++
			value, err := it.Item().ValueCopy(nil)
			if err != nil {
				return damaged(s.path, err)
			}
			each(line, decode(it.Item().Key()[len(prefix):]), value)
		}
		return nil
	})
}

// open opens the database for reading, or a mended copy when it was not closed. done closes it.
func (s *Source) open() (db *badger.DB, done func() error, err error) {
	db, err = badger.Open(settings(s.path).WithReadOnly(true))
	switch {
	case err == nil:
		return db, db.Close, nil
	case strings.Contains(err.Error(), badger.ErrReplayNeeded.Error()), strings.Contains(err.Error(), badger.ErrTruncateNeeded.Error()): // it does not wrap them
	case strings.Contains(err.Error(), "directory lock"):
		return nil, nil, bulkhead.Faultf(bulkhead.KindUnavailable, "another program, step-ca most likely, has the database %s open", s.path).WithCause(err).
			WithHint("stop step-ca, copy the folder, start step-ca, and give the copy")
	case strings.Contains(err.Error(), "unsupported version"):
		return nil, nil, bulkhead.Faultf(bulkhead.KindMalformed, "%s is a badger database of another version than 2", s.path).WithCause(err).
			WithHint("give a folder with the certificates, and the CRL of step-ca")
	default:
		return nil, nil, damaged(s.path, err)
	}
	dir, err := os.MkdirTemp(s.scratch, "step-db-")
	if err != nil {
		return nil, nil, bulkhead.NewFault(bulkhead.KindUnavailable, "the database was not closed, and there is no room to mend a copy of it").WithCause(err)
	}
	clean := func() error { return os.RemoveAll(dir) }
	if err := copyDir(dir, s.path); err != nil {
		return nil, nil, errors.Join(bulkhead.Faultf(bulkhead.KindUnavailable, "%s was not closed and could not be copied to be mended", s.path).WithCause(err), clean())
	}
	if db, err = badger.Open(settings(dir).WithTruncate(true)); err != nil {
		return nil, nil, errors.Join(damaged(s.path, err), clean())
	}
	return db, func() error { return errors.Join(db.Close(), clean()) }, nil
}

func settings(dir string) badger.Options {
	return badger.DefaultOptions(dir).WithLogger(nil).WithTableLoadingMode(options.FileIO).WithValueLogLoadingMode(options.FileIO)
}

func damaged(path string, err error) error {
	return bulkhead.Faultf(bulkhead.KindMalformed, "the database %s cannot be read: %s", path, err).WithCause(err).WithHint("give a folder with the certificates, and the CRL of step-ca")
}

// encode appends a part of a key as step-ca writes it: its length in two octets, the low one first, then itself.
func encode(to []byte, part string) []byte {
	return append(binary.LittleEndian.AppendUint16(to, uint16(len(part))), part...)
}

// decode reads what encode wrote; what is not of that form is kept as it is, and judged by whoever reads it.
func decode(part []byte) []byte {
	if len(part) >= 2 && int(binary.LittleEndian.Uint16(part)) == len(part)-2 {
		part = part[2:]
	}
	return append([]byte(nil), part...)
}

// copyDir copies the plain files of a folder. Octets that are zero are left out: what was not closed ends in gigabytes of them.
func copyDir(to, from string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || e.Name() == "LOCK" {
			continue
		}
		if err := copyFile(filepath.Join(to, e.Name()), filepath.Join(from, e.Name())); err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
	}
	return nil
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	block, size := make([]byte, 1<<20), int64(0)
	for {
		n, err := io.ReadFull(in, block)
		if !zero(block[:n]) {
			if _, err := out.WriteAt(block[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return out.Truncate(size)
		case err != nil:
			return err
		}
	}
}

func zero(p []byte) bool {
	for _, b := range p {
		if b != 0 {
			return false
		}
	}
	return true
}
