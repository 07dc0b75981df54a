// Package stepca reads what Smallstep's step-ca keeps: its badger database, and dumps that pg_dump and mysqldump make of its
// tables in PostgreSQL and MySQL. Only two of its tables are read: x509_certs and revoked_x509_certs.
//
// Invariant: the database that it is pointed at is opened for reading alone and never changed; where badger would have to mend
// it first, a copy is mended. Revocations are given before the first certificate. Every row of the two tables becomes a piece, a
// damaged one a piece with a problem.
//
// Refuses: a database that step-ca has open, one of badger 1, a directory or file that is none of these. It is linked into
// the program that imports, and into no role.
package stepca

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"time"

	"bulkhead"
	"bulkhead/importer"
)

// The tables that are read.
const (
	certsTable   = "x509_certs"
	revokedTable = "revoked_x509_certs"
)

// Source is a database or a dump of one.
type Source struct {
	path    string
	scratch string
	dir     bool
}

// Open looks what path is: a directory with a badger database, or a file with a dump. scratch is where a copy may be made of a
// database that was not closed; "" is the system's folder for such things.
func Open(path, scratch string) (*Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", path).WithCause(err).WithHint("give the folder that db.dataSource of step-ca's ca.json names, or a dump of its tables")
	}
	return &Source{path: path, scratch: scratch, dir: info.IsDir()}, nil
}

// Lists gives the revocations.
func (s *Source) Lists(ctx context.Context, emit func(importer.Piece)) error {
	return s.rows(ctx, revokedTable, func(line int, key, value []byte) {
		emit(revocation(s.path, line, key, value))
	})
}

// Certificates gives the certificates.
func (s *Source) Certificates(ctx context.Context, emit func(importer.Piece)) error {
	return s.rows(ctx, certsTable, func(line int, key, value []byte) {
		if len(value) == 0 {
			emit(importer.Piece{File: s.path, Line: line, Problem: fmt.Sprintf("the certificate %.60q of the database is empty", key)})
			return
		}
		emit(importer.Piece{File: s.path, Line: line, DER: value})
	})
}

// rows calls each for every row of a table; key and value are its own. line counts from 1: of a dump it is the line, of a
// database the row of the table.
func (s *Source) rows(ctx context.Context, table string, each func(line int, key, value []byte)) error {
	if s.dir {
		return s.badger(ctx, table, each)
	}
	f, err := os.Open(s.path)
	if err != nil {
		return bulkhead.Faultf(bulkhead.KindUsage, "%s cannot be read", s.path).WithCause(err)
	}
	defer f.Close()
	return readDump(ctx, s.path, f, table, each)
}

// revoked is what step-ca writes of a revocation.
type revoked struct {
	Serial     string // decimal
	ReasonCode int    // RFC 5280 section 5.3.1
	RevokedAt  time.Time
}

func revocation(file string, line int, key, value []byte) importer.Piece {
	bad := func(why string) importer.Piece {
		return importer.Piece{File: file, Line: line, Problem: fmt.Sprintf("the revocation %.60q of the database: %s", key, why)}
	}
	var r revoked
	if err := json.Unmarshal(value, &r); err != nil {
		return bad("it is not JSON: " + err.Error())
	}
	n, ok := new(big.Int).SetString(string(key), 10)
	switch {
	case !ok || n.Sign() <= 0:
		return bad("its key is not a serial")
	case r.Serial != string(key):
		return bad(fmt.Sprintf("it names another serial, %.60q", r.Serial))
	case r.RevokedAt.IsZero():
		return bad("it has no time")
	case r.ReasonCode < 0 || r.ReasonCode > 10 || r.ReasonCode == 7:
		return bad(fmt.Sprintf("%d is not a reason", r.ReasonCode))
	}
	return importer.Piece{File: file, Line: line, Serial: n.Text(16), RevokedAt: r.RevokedAt.UTC().Truncate(time.Second), Reason: bulkhead.Reason(r.ReasonCode)}
}
