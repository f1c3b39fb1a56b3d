package rows

import (
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// Columns are columns of a table in the order of their row type's fields, for
// statements that Bun does not build. Their names come from Bun's tags, and
// values and destinations by the same fields, so that none can end up in
// another's place.
type Columns []column

type column struct {
	name     string
	field    int
	nullzero bool // the zero value is NULL
}

// The columns of the tables that are written on the way of every turn.
var (
	MessageColumns      = columnsOf[Message]()
	RunColumns          = columnsOf[Run]()
	ConversationColumns = columnsOf[Conversation]()
	EntryColumns        = columnsOf[Entry]()
)

func columnsOf[T any]() (list Columns) {
	t := reflect.TypeFor[T]()
	for i := range t.NumField() {
		if t.Field(i).Name == "BaseModel" {
			continue
		}
		name, options, _ := strings.Cut(t.Field(i).Tag.Get("bun"), ",")
		list = append(list, column{name: name, field: i, nullzero: slices.Contains(strings.Split(options, ","), "nullzero")})
	}
	return list
}

// Without leaves out columns.
func (c Columns) Without(names ...string) Columns {
	for _, name := range names {
		c.index(name)
	}
	return slices.DeleteFunc(slices.Clone(c), func(col column) bool { return slices.Contains(names, col.name) })
}

// Only takes some of the columns.
func (c Columns) Only(names ...string) (only Columns) {
	for _, name := range names {
		only = append(only, c[c.index(name)])
	}
	return only
}

// index panics without a column of that name.
func (c Columns) index(name string) int {
	i := slices.IndexFunc(c, func(col column) bool { return col.name == name })
	if i < 0 {
		panic(fmt.Sprintf("rows: no column %q", name))
	}
	return i
}

// List writes the names with commas, each behind the prefix.
func (c Columns) List(prefix string) string {
	names := make([]string, len(c))
	for i, col := range c {
		names[i] = prefix + col.name
	}
	return strings.Join(names, ", ")
}

// Placeholders writes a question mark for each column, with commas.
func (c Columns) Placeholders() string {
	return strings.TrimSuffix(strings.Repeat("?, ", len(c)), ", ")
}

// Values returns what a row, given by pointer, has in the columns.
func (c Columns) Values(row any) []any {
	v := reflect.ValueOf(row).Elem()
	values := make([]any, len(c))
	for i, col := range c {
		if field := v.Field(col.field); !col.nullzero || !field.IsZero() {
			values[i] = field.Interface()
		}
	}
	return values
}

// Set replaces the value of one column.
func (c Columns) Set(values []any, name string, value any) {
	values[c.index(name)] = value
}

// Dests returns where to scan the columns to in a row, given by pointer. NULL
// becomes the zero value.
func (c Columns) Dests(row any) []any {
	v := reflect.ValueOf(row).Elem()
	dests := make([]any, len(c))
	for i, col := range c {
		switch dest := v.Field(col.field).Addr().Interface().(type) {
		case *string:
			dests[i] = NullText{dest}
		case *time.Time:
			dests[i] = NullTime{dest}
		default:
			dests[i] = dest
		}
	}
	return dests
}

// NullText scans a column of text, or of JSON, that may be NULL, which is "".
type NullText struct{ Dest *string }

// Scan implements sql.Scanner.
func (t NullText) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t.Dest = ""
	case string:
		*t.Dest = v
	case []byte:
		*t.Dest = string(v)
	default:
		return fmt.Errorf("read %T as text", src)
	}
	return nil
}

// ScanBytes is Scan without a string on the way, for pgx. A row often has what the one
// before it had.
func (t NullText) ScanBytes(v []byte) error {
	if string(v) != *t.Dest {
		*t.Dest = string(v)
	}
	return nil
}

// NullTime scans a time that may be NULL, which is the zero one.
type NullTime struct{ Dest *time.Time }

// Scan implements sql.Scanner. An expression of SQLite has no type, so that its
// driver gives a time as it is kept: as text.
func (t NullTime) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t.Dest = time.Time{}
	case time.Time:
		*t.Dest = v.UTC()
	case string:
		at, err := time.Parse("2006-01-02 15:04:05.999999999-07:00", v)
		if err != nil {
			return err
		}
		*t.Dest = at.UTC()
	default:
		return fmt.Errorf("read %T as a time", src)
	}
	return nil
}

var (
	_ sql.Scanner         = NullText{}
	_ pgtype.BytesScanner = NullText{}
	_ sql.Scanner         = NullTime{}
)
