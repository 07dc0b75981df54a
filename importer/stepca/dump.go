package stepca

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"bulkhead"
)

// maxRow bounds a row of a dump: a certificate in hexadecimal, or many rows that mysqldump puts on one line.
const maxRow = 64 << 20

// readDump reads a table from a dump in text. PostgreSQL's has "COPY schema.table (nkey, nvalue) FROM stdin;" and then rows of
// \xHEX, a tab and \xHEX up to "\."; those of MySQL and MariaDB, made with --hex-blob, have INSERT INTO `table` VALUES
// (0xHEX,0xHEX),(…); on one line or with a line for each row.
func readDump(ctx context.Context, name string, r io.Reader, table string, each func(line int, key, value []byte)) error {
	in := bufio.NewScanner(r)
	in.Buffer(make([]byte, 64<<10), maxRow)
	d := dump{table: table}
	for in.Scan() {
		d.line++
		if d.line%1000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := d.read(in.Bytes(), func(key, value []byte) { each(d.line, key, value) }); err != nil {
			return fault(name, d.line, err)
		}
	}
	switch {
	case in.Err() != nil:
		return fault(name, d.line+1, in.Err())
	case d.copying != "" || d.inserting:
		return fault(name, d.line, errors.New(`the dump ends within a table`))
	case !d.found:
		return bulkhead.Faultf(bulkhead.KindMalformed, "%s is no dump with step-ca's table %s", name, certsTable).
			WithHint("pg_dump --data-only -t x509_certs -t revoked_x509_certs DATABASE, or mysqldump --hex-blob DATABASE x509_certs revoked_x509_certs")
	}
	return nil
}

// dump is where the reading of one is.
type dump struct {
	table     string // whose rows are wanted
	line      int
	copying   string // the table of which rows of COPY come
	inserting bool   // an INSERT into the table has not ended
	found     bool   // a table of certificates was there
}

// read takes the next line.
func (d *dump) read(text []byte, each func(key, value []byte)) error {
	switch {
	case d.copying != "" && bytes.Equal(text, []byte(`\.`)):
		d.copying = ""
	case d.copying != "":
		if d.copying != d.table {
			return nil
		}
		key, value, err := copied(text)
		if err == nil {
			each(key, value)
		}
		return err
	case d.inserting:
		return d.insert(text, each)
	case bytes.HasPrefix(text, []byte("COPY ")):
		d.copying = tableOf(text)
		d.found = d.found || d.copying == certsTable
	case bytes.HasPrefix(text, []byte("INSERT INTO ")):
		of := tableOf(text[len("INSERT "):])
		d.found = d.found || of == certsTable
		if _, rows, ok := bytes.Cut(text, []byte(" VALUES")); ok && of == d.table {
			d.inserting = true
			return d.insert(rows, each)
		}
	}
	return nil
}

func fault(name string, line int, err error) error {
	return bulkhead.Faultf(bulkhead.KindMalformed, "%s, line %d: %s", name, line, err).WithHint("make the dump again: pg_dump, or mysqldump with --hex-blob")
}

// tableOf reads the table's name after the first word: schema.table, "table" and `table`.
func tableOf(text []byte) string {
	f := strings.Fields(string(text[:min(len(text), 300)]))
	if len(f) < 2 {
		return ""
	}
	name, _, _ := strings.Cut(f[1], "(")
	if i := strings.LastIndex(name, "."); i >= 0 {
		name = name[i+1:]
	}
	return strings.Trim(name, "`\"")
}

// copied reads a row of COPY with two columns of bytea.
func copied(text []byte) (key, value []byte, err error) {
	a, b, ok := bytes.Cut(text, []byte("\t"))
	const mark = `\\x` // the backslash of \x is doubled in COPY's text
	if !ok || !bytes.HasPrefix(a, []byte(mark)) || !bytes.HasPrefix(b, []byte(mark)) {
		return nil, nil, errors.New("a row is not two columns of bytea")
	}
	if key, err = unhex(a[len(mark):]); err == nil {
		value, err = unhex(b[len(mark):])
	}
	return key, value, err
}

// insert reads rows of an INSERT with two columns in hexadecimal, up to the end of the line or of the statement.
func (d *dump) insert(rest []byte, each func(key, value []byte)) error {
	for {
		switch rest = bytes.Trim(rest, " ,"); {
		case len(rest) == 0:
			return nil
		case bytes.Equal(rest, []byte(";")):
			d.inserting = false
			return nil
		}
		var row []byte
		var ok bool
		if row, rest, ok = bytes.Cut(rest, []byte(")")); !ok {
			return errors.New("a row does not end")
		}
		a, b, two := bytes.Cut(row, []byte(","))
		a, first := bytes.CutPrefix(a, []byte("(0x"))
		b, second := bytes.CutPrefix(b, []byte("0x"))
		if !two || !first || !second {
			return errors.New("a row is not two columns in hexadecimal")
		}
		key, err := unhex(a)
		if err != nil {
			return err
		}
		value, err := unhex(b)
		if err != nil {
			return err
		}
		each(key, value)
	}
}

func unhex(p []byte) ([]byte, error) {
	out := make([]byte, hex.DecodedLen(len(p)))
	if _, err := hex.Decode(out, p); err != nil {
		return nil, fmt.Errorf("a column is not hexadecimal: %w", err)
	}
	return out, nil
}
