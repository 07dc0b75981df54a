package rel

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"bulkhead"
)

// unix is the form of a time in the database; 0 for the zero time.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// timeCol scans unix seconds.
type timeCol struct{ t *time.Time }

func (c timeCol) Scan(src any) error {
	v, ok := src.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T", src)
	}
	*c.t = time.Time{}
	if v != 0 {
		*c.t = time.Unix(v, 0).UTC()
	}
	return nil
}

// intCol scans an integer of any type without the detour over text that database/sql takes for types of ours.
type intCol[T ~int | ~int64 | ~uint8] struct{ to *T }

func (c intCol[T]) Scan(src any) error {
	v, ok := src.(int64)
	if !ok || int64(T(v)) != v {
		return fmt.Errorf("integer column holds %v of %T", src, src)
	}
	*c.to = T(v)
	return nil
}

// blob is p, never nil: columns are NOT NULL and the empty value means none.
func blob(p []byte) []byte {
	if p == nil {
		return []byte{}
	}
	return p
}

// bytesCol scans a blob into memory of its own; empty gives nil.
type bytesCol struct{ p *[]byte }

func (c bytesCol) Scan(src any) error {
	v, err := bytesOf(src)
	*c.p = nil
	if len(v) > 0 {
		*c.p = append([]byte(nil), v...)
	}
	return err
}

// heldCol takes a blob without a copy: good until the next row is read.
type heldCol []byte

// Scan implements sql.Scanner.
func (c *heldCol) Scan(src any) error {
	v, err := bytesOf(src)
	*c = v
	return err
}

// wordCol scans a word of which there are few, without a copy of its own for each row.
type wordCol[T ~string] struct{ to *T }

// Scan implements sql.Scanner.
func (c wordCol[T]) Scan(src any) error {
	switch v := src.(type) {
	case string:
		if string(*c.to) != v {
			*c.to = T(v)
		}
		return nil
	case []byte:
		if string(*c.to) != string(v) {
			*c.to = T(v)
		}
		return nil
	}
	return fmt.Errorf("text column holds %T", src)
}

func bytesOf(src any) ([]byte, error) {
	switch v := src.(type) {
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	case nil:
		return nil, nil
	default:
		return nil, fmt.Errorf("blob column holds %T", src)
	}
}

// text is free text as both engines can keep it: valid UTF-8 without NUL, what is not being replaced. Such text may come
// from strangers (DNS answers, HTTP replies), and must not keep the row that it explains out of the record.
func text(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

func hashArg(h bulkhead.Hash) []byte {
	if h.IsZero() {
		return []byte{}
	}
	return h[:]
}

// hashCol scans a digest; empty gives the zero hash.
type hashCol struct{ h *bulkhead.Hash }

func (c hashCol) Scan(src any) error {
	v, err := bytesOf(src)
	if err != nil {
		return err
	}
	*c.h = bulkhead.Hash{}
	if len(v) != 0 && len(v) != len(c.h) {
		return fmt.Errorf("digest column holds %d octets", len(v))
	}
	copy(c.h[:], v)
	return nil
}

func serialArg(s bulkhead.Serial) []byte {
	if s.IsZero() {
		return []byte{}
	}
	b := s.Fixed()
	return b[:]
}

// cursorSerial is the serial as a lower bound: the zero serial is below all.
func cursorSerial(s bulkhead.Serial) []byte {
	b := s.Fixed()
	return b[:]
}

// serialCol scans a serial; empty gives the zero value.
type serialCol struct{ s *bulkhead.Serial }

func (c serialCol) Scan(src any) error {
	v, err := bytesOf(src)
	if err != nil {
		return err
	}
	*c.s = bulkhead.Serial{}
	if len(v) == 0 {
		return nil
	}
	*c.s, err = bulkhead.SerialFromBytes(v)
	return err
}

// jsonArg encodes v as JSON text; nouns always encode.
func jsonArg(v any) string {
	p, err := json.Marshal(v)
	if err != nil {
		return "null"
	}
	return string(p)
}

// namesArg is jsonArg of names, of which there are some in every row.
func namesArg(names []bulkhead.Identifier) string {
	p := make([]byte, 0, 64)
	p = append(p, '[')
	for i, n := range names {
		if !plain(string(n.Type)) || !plain(n.Value) {
			return jsonArg(names)
		}
		if i > 0 {
			p = append(p, ',')
		}
		p = append(append(append(append(append(p, `{"type":"`...), n.Type...), `","value":"`...), n.Value...), `"}`...)
	}
	if names == nil {
		return jsonArg(names)
	}
	return string(append(p, ']'))
}

// wordsArg is jsonArg of texts.
func wordsArg(words []string) string {
	if words == nil {
		return jsonArg(words)
	}
	p := append(make([]byte, 0, 64), '[')
	for i, w := range words {
		if !plain(w) {
			return jsonArg(words)
		}
		if i > 0 {
			p = append(p, ',')
		}
		p = append(append(append(p, '"'), w...), '"')
	}
	return string(append(p, ']'))
}

// plain reports that JSON text holds a string as it is.
func plain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

// jsonCol scans JSON text; the empty text leaves the value as it is.
type jsonCol struct{ v any }

func (c jsonCol) Scan(src any) error {
	p, err := bytesOf(src)
	if err != nil || len(p) == 0 {
		return err
	}
	return json.Unmarshal(p, c.v)
}

// problem is a fault as the database keeps it: without its cause, which is for the log.
type problem struct {
	Kind       bulkhead.Kind       `json:"kind"`
	Detail     string              `json:"detail"`
	Hint       string              `json:"hint,omitempty"`
	RetryAfter time.Duration       `json:"retryAfter,omitempty"`
	Subs       []bulkhead.SubFault `json:"subs,omitempty"`
}

func keepFault(f *bulkhead.Fault) *problem {
	if f == nil {
		return nil
	}
	return &problem{Kind: f.Kind, Detail: f.Detail, Hint: f.Hint, RetryAfter: f.RetryAfter, Subs: f.Subs}
}

func (p *problem) fault() *bulkhead.Fault {
	if p == nil {
		return nil
	}
	return &bulkhead.Fault{Kind: p.Kind, Detail: p.Detail, Hint: p.Hint, RetryAfter: p.RetryAfter, Subs: p.Subs}
}

// inSizes are the lengths of lists in statements: few, so that few texts are prepared.
var inSizes = [...]int{1, 2, 4, 8, 16, 32, 64, 512}

// among is inChunks where the engine has no arrays, and one part of all items where it has: kind is the type of the array.
// The list is then a query of its own, so that rows are looked up one by one by their whole key, whatever the engine
// believes of the table.
func among[T, A any](d *Dialect, items []T, first int, kind string, arg func(T) A, fn func(part []T, list string, args []any) error) error {
	if !d.Arrays || len(items) == 0 {
		return inChunks(items, first, func(x T) any { return arg(x) }, fn)
	}
	all := make([]A, len(items))
	for i, x := range items {
		all[i] = arg(x)
	}
	return fn(items, "(SELECT unnest($"+strconv.Itoa(first)+"::"+kind+"[]))", []any{all})
}

// inChunks calls fn with parts of items, each with the text "($first, …)" of a list that holds it and the arguments
// to fill it; a part shorter than its list repeats its last item.
func inChunks[T any](items []T, first int, arg func(T) any, fn func(part []T, list string, args []any) error) error {
	for len(items) > 0 {
		size := inSizes[len(inSizes)-1]
		for _, n := range inSizes {
			if len(items) <= n {
				size = n
				break
			}
		}
		part := items[:min(size, len(items))]
		items = items[len(part):]
		args := make([]any, size)
		params := make([]string, size)
		for i := range size {
			args[i] = arg(part[min(i, len(part)-1)])
			params[i] = "$" + strconv.Itoa(first+i)
		}
		if err := fn(part, "("+strings.Join(params, ", ")+")", args); err != nil {
			return err
		}
	}
	return nil
}

// oneOf is "column IN (…)" for a short list of texts, or "1 = 1" for none, with arguments from $first on.
func oneOf[T ~string](column string, first int, items []T) (string, []any) {
	if len(items) == 0 {
		return "1 = 1", nil
	}
	params := make([]string, len(items))
	args := make([]any, len(items))
	for i, v := range items {
		params[i], args[i] = "$"+strconv.Itoa(first+i), string(v)
	}
	return column + " IN (" + strings.Join(params, ", ") + ")", args
}
