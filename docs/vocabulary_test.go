package docs_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// root is the repository, seen from this folder.
const root = ".."

// TestVocabulary refuses the words that docs/glossary.md replaces, in comments,
// strings and documents alike, and the names in
// testdata/replaced_identifiers.txt.
func TestVocabulary(t *testing.T) {
	words := glossary(t)
	names := replacedIdentifiers(t)
	files := 0
	walk(t, func(file string) {
		switch filepath.Ext(file) {
		case ".go":
			for _, d := range declared(t, file) {
				if term := names.termFor(filepath.ToSlash(file), d.name); term != "" {
					t.Errorf("%s:%d: %s: call it %s", file, d.line, d.name, term)
				}
			}
		case ".md", ".yaml", ".yml", ".sql", ".lua", ".sh", ".hcl", ".cfg":
		default:
			if name := filepath.Base(file); name != "Makefile" && name != "run" {
				return
			}
		}
		if file == "docs/glossary.md" || file == "docs/vocabulary_test.go" {
			return
		}
		files++
		for n, line := range lines(t, file) {
			if word := words.FindString(line); word != "" {
				t.Errorf("%s:%d: %q: see docs/glossary.md", file, n+1, word)
			}
		}
	})
	if files < 300 {
		t.Errorf("only %d files were read", files)
	}
}

// TestVocabulary_Finds shows that the check can fail.
func TestVocabulary_Finds(t *testing.T) {
	words := glossary(t)
	for text, want := range map[string]string{
		"// Whoever calls this": "Whoever",
		"it was mended":         "mended",
		"see the amended rule":  "",
		"the run's errand":      "errand",
	} {
		if got := words.FindString(text); got != want {
			t.Errorf("in %q found %q, want %q", text, got, want)
		}
	}
	names := replacedIdentifiers(t)
	for _, c := range []struct{ file, name, want string }{
		{"adapters/redis/publisher.go", "speak", "publishLoop"},
		{"adapters/rediscover/x.go", "speak", ""},
		{"app/replies/runner.go", "roster", "runRegistry"},
		{"app/replies/runner.go", "runRegistry", ""},
	} {
		if got := names.termFor(c.file, c.name); got != c.want {
			t.Errorf("%s in %s: %q, want %q", c.name, c.file, got, c.want)
		}
	}
}

// glossary returns an expression for every word of the table's last column.
func glossary(t *testing.T) *regexp.Regexp {
	t.Helper()
	var words []string
	for _, line := range lines(t, "docs/glossary.md") {
		cells := strings.Split(strings.Trim(line, "| "), "|")
		if !strings.HasPrefix(line, "| ") || len(cells) < 3 || strings.Contains(line, "| instead of |") {
			continue
		}
		for word := range strings.SplitSeq(cells[2], ",") {
			if word = strings.TrimSpace(word); word != "" {
				words = append(words, regexp.QuoteMeta(word))
			}
		}
	}
	if len(words) < 10 {
		t.Fatalf("docs/glossary.md replaces only %q", words)
	}
	return regexp.MustCompile(`(?i)\b(` + strings.Join(words, "|") + `)\b`)
}

type replaced struct{ dir, name, term string }

type replacements []replaced

// termFor returns the term that took a name's place in a file, "" for none.
func (r replacements) termFor(file, name string) string {
	i := slices.IndexFunc(r, func(e replaced) bool {
		return e.name == name && (e.dir == "*" || strings.HasPrefix(file, e.dir+"/"))
	})
	if i < 0 {
		return ""
	}
	return r[i].term
}

func replacedIdentifiers(t *testing.T) replacements {
	t.Helper()
	var out replacements
	for n, line := range lines(t, "docs/testdata/replaced_identifiers.txt") {
		if line == "" || line[0] == '#' {
			continue
		}
		cells := strings.Split(line, "\t")
		if len(cells) != 3 {
			t.Fatalf("replaced_identifiers.txt:%d has %d columns", n+1, len(cells))
		}
		out = append(out, replaced{cells[0], cells[1], cells[2]})
	}
	return out
}

type declaration struct {
	name string
	line int
}

// declared lists what a file declares for others to see: functions, methods,
// types, variables and constants of the package, and fields.
func declared(t *testing.T, file string) (out []declaration) {
	t.Helper()
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, filepath.Join(root, file), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	add := func(names ...*ast.Ident) {
		for _, id := range names {
			out = append(out, declaration{id.Name, set.Position(id.Pos()).Line})
		}
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			add(d.Name)
		case *ast.GenDecl:
			ast.Inspect(d, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.FuncLit, *ast.FuncType:
					return false
				case *ast.TypeSpec:
					add(n.Name)
				case *ast.ValueSpec:
					add(n.Names...)
				case *ast.StructType:
					for _, field := range n.Fields.List {
						add(field.Names...)
					}
				}
				return true
			})
		}
	}
	return out
}

// walk calls visit for every file of the repository, by its path from the root.
func walk(t *testing.T, visit func(file string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && path != root && (name == ".git" || name == "node_modules" || name == "bin" || name == "data") {
			return filepath.SkipDir
		}
		if d.Type().IsRegular() {
			visit(strings.TrimPrefix(filepath.ToSlash(path), root+"/"))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, file string) (out []string) {
	t.Helper()
	f, err := os.Open(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 16<<20)
	for s.Scan() {
		out = append(out, s.Text())
	}
	if err := s.Err(); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return out
}
