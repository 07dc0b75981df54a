package rows

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"bulkhead"
)

// stream is a well formed one of two tables.
func stream(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w := &writer{w: bufio.NewWriter(&out)}
	w.raw([]byte(magic))
	for _, c := range []Column{{Name: "n"}, {Name: "b", Blob: true}} {
		w.text(markTable, []byte("t"+c.Name))
		w.uint(1)
		w.text(valueText, []byte(c.Name))
		for _, v := range []any{int64(7), "text", []byte{1, 2}, nil} {
			w.raw([]byte{markRow})
			w.rows++
			if err := w.value(c, v); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.raw([]byte{markEnd})
	w.uint(w.rows)
	if err := w.w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var tables = []Table{{Name: "tn", Columns: []Column{{Name: "n"}}}, {Name: "tb", Columns: []Column{{Name: "b", Blob: true}}}}

// count takes every row and counts them.
func count(n *int) Sink {
	return func(_ context.Context, t Table, next func() ([]any, error)) error {
		for {
			row, err := next()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if len(row) == 0 {
				return errors.New("a row without values")
			}
			*n++
		}
	}
}

// FuzzLoad: no stream makes it panic, and one that is not whole is refused with what to do.
func FuzzLoad(f *testing.F) {
	whole := stream(f)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, body []byte) {
		n := 0
		err := Load(t.Context(), bytes.NewReader(body), tables, count(&n))
		if err != nil && (bulkhead.KindOf(err) != bulkhead.KindMalformed || bulkhead.AsFault(err).Hint == "") {
			t.Fatalf("%v", err)
		}
		if err == nil && n > len(body) {
			t.Fatalf("%d rows of %d octets", n, len(body))
		}
	})
}

// TestCutStream: a stream that is cut anywhere is noticed.
func TestCutStream(t *testing.T) {
	whole := stream(t)
	for i := range whole {
		n := 0
		if err := Load(t.Context(), bytes.NewReader(whole[:i]), tables, count(&n)); bulkhead.KindOf(err) != bulkhead.KindMalformed {
			t.Errorf("cut at %d of %d: %v", i, len(whole), err)
		}
	}
	n := 0
	if err := Load(t.Context(), bytes.NewReader(whole), tables, count(&n)); err != nil || n != 8 {
		t.Errorf("whole: %d rows, %v", n, err)
	}
}
