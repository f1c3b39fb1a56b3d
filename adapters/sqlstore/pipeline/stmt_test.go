package pipeline

import (
	"testing"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/schema"
)

// A statement reads the same to both databases, whatever was put into it.
func TestStatement_Text(t *testing.T) {
	gen := schema.NewQueryGen(pgdialect.New())
	inner := New("b IN (?, ?)", 2, "it's")
	for name, c := range map[string]struct {
		q          Stmt
		positional string
		args       int
		whole      string
	}{
		"Plain":  {New("SELECT 1"), "SELECT 1", 0, "SELECT 1"},
		"Args":   {New("a = ? AND b = ?", 1, nil), "a = $1 AND b = $2", 2, "a = 1 AND b = NULL"},
		"Nested": {New("a = ? AND ? AND c = ?", 1, inner, "x"), "a = $1 AND b IN ($2, $3) AND c = $4", 4, "a = 1 AND b IN (2, 'it''s') AND c = 'x'"},
		"First":  {New("? AND c = ?", inner, "x"), "b IN ($1, $2) AND c = $3", 3, "b IN (2, 'it''s') AND c = 'x'"},
		"Safe":   {New("LIMIT ? OFFSET ?", bun.Safe("5"), 6), "LIMIT 5 OFFSET $1", 1, "LIMIT 5 OFFSET 6"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.q.positional(); got != c.positional {
				t.Errorf("prepared as %s", got)
			}
			if len(c.q.args) != c.args {
				t.Errorf("with %v", c.q.args)
			}
			whole, err := c.q.AppendQuery(gen, nil)
			if err != nil || string(whole) != c.whole {
				t.Errorf("as text %s, %v", whole, err)
			}
		})
	}
}

// Arguments must have places, or they would end up in each other's.
func TestStatement_NoPlace(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("an argument without a place was taken")
		}
	}()
	New("a = 1", New("b"))
}
