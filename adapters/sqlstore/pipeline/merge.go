package pipeline

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/uptrace/bun"
)

// ExecMerged executes several lists of statements that do not depend on each
// other, such as those of different users; each list in its order. On a connection
// that reaches Postgres itself, those of several lists that have the same text
// become one statement over arrays of their arguments: to begin a statement costs
// Postgres about as much as to execute it for one row. Their rows go to where they
// would have gone. No two of the merged statements may change the same row.
func (p *Pipeline) ExecMerged(ctx context.Context, tx bun.IDB, lists ...[]Stmt) error {
	return p.execMerged(ctx, tx, nil, lists, nil)
}

// ExecMergedAndCommit is ExecMerged for the last statements of a transaction, as
// ExecAndCommit is.
func (p *Pipeline) ExecMergedAndCommit(ctx context.Context, tx bun.IDB, lists ...[]Stmt) error {
	t, ok := tx.(*pipelineTx)
	if !ok {
		return p.execMerged(ctx, tx, nil, lists, nil)
	}
	err := p.execMerged(ctx, tx, nil, lists, []Stmt{commit})
	t.ended = err == nil
	return err
}

// execMerged executes lists of statements between others, in one round trip.
func (p *Pipeline) execMerged(ctx context.Context, tx bun.IDB, before []Stmt, lists [][]Stmt, behind []Stmt) error {
	all := slices.Concat([][]Stmt{before}, lists, [][]Stmt{behind})
	t, ok := tx.(*pipelineTx)
	if !ok || !t.Prepares {
		return p.Exec(ctx, tx, slices.Concat(all...)...)
	}
	if len(lists) < 2 {
		return p.execPrepared(ctx, t.Conn, all, nil)
	}
	return p.execPrepared(ctx, t.Conn, all, func(ctx context.Context, conn *pgx.Conn) ([]Stmt, error) {
		merged := slices.Clone(before)
		for _, same := range inTurn(lists) {
			list, err := merge(ctx, conn, same)
			if err != nil {
				return nil, err
			}
			merged = append(merged, list...)
		}
		return append(merged, behind...), nil
	})
}

// inTurn orders the statements of all lists, those with the same text together. A
// statement waits while another list has the same text behind its own first
// statement, as long as there is one that need not wait.
func inTurn(lists [][]Stmt) (order [][]Stmt) {
	left := slices.Clone(lists)
	numbers, all := numberTexts(lists)
	behind := make([]int, all) // how often a text is not the first of its list
	for _, list := range numbers {
		for i, text := range list {
			if i > 0 {
				behind[text]++
			}
		}
	}
	sorted := make([]Stmt, 0, total(lists))
	for {
		next := -1
		for _, list := range numbers {
			if len(list) > 0 && (next < 0 || behind[list[0]] < behind[next]) {
				next = list[0]
			}
		}
		if next < 0 {
			return order
		}
		from := len(sorted)
		for i, list := range numbers {
			if len(list) == 0 || list[0] != next {
				continue
			}
			sorted = append(sorted, left[i][0])
			left[i], numbers[i] = left[i][1:], list[1:]
			if len(numbers[i]) > 0 {
				behind[numbers[i][0]]--
			}
		}
		order = append(order, sorted[from:len(sorted):len(sorted)])
	}
}

// numberTexts gives each text a number below all.
func numberTexts(lists [][]Stmt) (numbers [][]int, all int) {
	known := map[string]int{}
	flat := make([]int, 0, total(lists))
	numbers = make([][]int, len(lists))
	for i, list := range lists {
		from := len(flat)
		for _, q := range list {
			n, ok := known[q.text]
			if !ok {
				n = len(known)
				known[q.text] = n
			}
			flat = append(flat, n)
		}
		numbers[i] = flat[from:]
	}
	return numbers, len(known)
}

// total counts the statements of lists.
func total(lists [][]Stmt) (n int) {
	for _, list := range lists {
		n += len(list)
	}
	return n
}

// merge makes statements that have the same text one, if they can be.
func merge(ctx context.Context, conn *pgx.Conn, same []Stmt) ([]Stmt, error) {
	first := same[0]
	if len(same) == 1 || len(first.args) == 0 {
		return same, nil
	}
	text, ok := mergedTexts.get(first.text)
	if !ok {
		var err error
		if text, err = mergedText(ctx, conn, first); err != nil {
			return nil, err
		}
		mergedTexts.put(first.text, text)
	}
	if text == "" {
		return same, nil
	}
	merged := Stmt{text: text, args: make([]any, len(first.args))}
	cells := make(Array, len(first.args)*len(same))
	for i := range first.args {
		column := cells[i*len(same) : (i+1)*len(same)]
		for n, q := range same {
			column[n] = q.args[i]
		}
		merged.args[i] = column
	}
	if first.row != nil {
		var dests []any // of one row at a time
		merged.rows = func(found pgx.Rows) error {
			raw := found.RawValues()[0]
			if len(raw) != 8 {
				return fmt.Errorf("pipeline: the number of a merged statement has %d bytes", len(raw))
			}
			return same[binary.BigEndian.Uint64(raw)-1].row(func(dest ...any) error {
				dests = append(append(dests[:0], nil), dest...)
				return found.Scan(dests...)
			})
		}
	}
	return []Stmt{merged}, nil
}

// mergedTexts caches mergedText by text.
var mergedTexts textCache[string]

// mergedText is the text of a statement for arrays of arguments; "" if there is
// none. Each argument's type is the one that Postgres gives it in the statement
// itself.
func mergedText(ctx context.Context, conn *pgx.Conn, q Stmt) (string, error) {
	single := q.positional()
	described, err := conn.Prepare(ctx, single, single)
	if err != nil {
		return "", err
	}
	var arrays, names []string
	for i, oid := range described.ParamOIDs {
		known, ok := conn.TypeMap().TypeForOID(oid)
		if !ok {
			return "", nil
		}
		if _, isArray := known.Codec.(*pgtype.ArrayCodec); isArray { // unnest would flatten it
			return "", nil
		}
		arrays = append(arrays, "?::"+known.Name+"[]")
		names = append(names, "p"+strconv.Itoa(i+1))
	}
	var b strings.Builder
	for i, part := range strings.Split(q.text, "?") {
		if i > 0 {
			b.WriteString("v." + names[i-1])
		}
		b.WriteString(part)
	}
	each := b.String()
	from := "unnest(" + strings.Join(arrays, ", ") + ")"
	as := " AS v (" + strings.Join(names, ", ") + ")"
	switch verb, _, _ := strings.Cut(each, " "); verb {
	case "SELECT":
		return "SELECT v.n, q.* FROM " + from + " WITH ORDINALITY AS v (" + strings.Join(names, ", ") + ", n) CROSS JOIN LATERAL (" + each + ") AS q", nil
	case "INSERT":
		head, rest, ok := cutWord(each, "VALUES")
		values, tail, closed := cutBracket(strings.TrimPrefix(rest, "("))
		if ok && closed {
			return head + " SELECT " + values + " FROM " + from + as + tail, nil
		}
	case "UPDATE":
		head, where, ok := cutWord(each, "WHERE")
		if ok {
			return head + " FROM " + from + as + " WHERE " + where, nil
		}
	case "DELETE":
		head, where, ok := cutWord(each, "WHERE")
		if ok {
			return head + " USING " + from + as + " WHERE " + where, nil
		}
	}
	return "", nil
}

// cutWord splits a text at a word that stands between spaces of any kind.
func cutWord(text, word string) (before, behind string, ok bool) {
	for at := 0; ; {
		i := strings.Index(text[at:], word)
		if i < 0 {
			return text, "", false
		}
		i += at
		at = i + len(word)
		if i > 0 && at < len(text) && unicode.IsSpace(rune(text[i-1])) && unicode.IsSpace(rune(text[at])) {
			return text[:i-1], text[at+1:], true
		}
	}
}

// cutBracket splits a text at the bracket that closes what it begins in.
func cutBracket(text string) (inside, behind string, ok bool) {
	depth := 0
	for i := range len(text) {
		switch text[i] {
		case '(':
			depth++
		case ')':
			if depth == 0 {
				return text[:i], text[i+1:], true
			}
			depth--
		}
	}
	return "", "", false
}
