package rel

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// part is a statement with the rows that it writes, column by column.
type part struct {
	statement
	columns []values
}

// all runs statements for all their rows, in this order. With arrays they are one statement of the engine, and one round trip:
// what refers to rows of an earlier part is looked at when all are there. No part may touch a row that another one writes.
func (t *tx) all(ctx context.Context, parts ...part) error {
	_, err := t.allAnd(ctx, "", nil, parts...)
	return err
}

// allAnd is all on an engine with arrays, and asks a query in the same round trip, which sees nothing of what the parts write; it
// returns how many rows the query found.
func (t *tx) allAnd(ctx context.Context, query string, args []any, parts ...part) (found int, err error) {
	var full []part
	for _, p := range parts {
		if p.columns[0].len() > 0 {
			full = append(full, p)
		}
	}
	if !t.dialect.Arrays || query == "" && len(full) < 2 {
		for _, p := range full {
			if err := t.batch(ctx, p.statement, p.columns...); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}
	for _, p := range full {
		for _, c := range p.columns {
			args = append(args, c.all())
		}
	}
	if query == "" {
		_, err = t.ExecContext(ctx, joined("", full), args...)
		return 0, err
	}
	rows, err := t.QueryContext(ctx, joined(query, full), args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	for rows.Next() {
		found++
	}
	return found, rows.Err()
}

// joinedTexts keeps the texts that joined made: there are a dozen.
var joinedTexts sync.Map

var parameter = regexp.MustCompile(`\$\d+`)

// joined is the text of several statements as one; the parameters of each follow those of the one before it, and those of the
// query, when there is one, come first.
func joined(query string, parts []part) string {
	key := query
	for _, p := range parts {
		key += "\x00" + p.many
	}
	if text, ok := joinedTexts.Load(key); ok {
		return text.(string)
	}
	first := len(parameter.FindAllString(query, -1))
	var names, texts []string
	for i, p := range parts {
		texts = append(texts, parameter.ReplaceAllStringFunc(p.many, func(s string) string {
			n, _ := strconv.Atoi(s[1:])
			return "$" + strconv.Itoa(first+n)
		}))
		names = append(names, fmt.Sprintf("part%d", i+1))
		first += len(p.columns)
	}
	last := query
	if last == "" {
		last, texts = texts[len(texts)-1], texts[:len(texts)-1]
	}
	for i := range texts {
		texts[i] = names[i] + " AS (" + texts[i] + ")"
	}
	text := "WITH " + strings.Join(texts, ", ") + " " + last
	joinedTexts.Store(key, text)
	return text
}
