package ports_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "parley"

// rule says what the files of a package and of those below it may import
// besides the standard library. A longer path beats a shorter one, so each
// adapter has its own list of vendors.
type rule struct {
	pkg     string
	ours    []string // of this module, each with what is below it, or without if it ends in $
	vendors []string // of other modules, each with what is below it; "*" is any
	std     []string // of the standard library, exactly these; nil is any
	notStd  []string // of the standard library, none of these
}

// The layers. Sibling adapters never meet: what they share is a port.
var rules = []rule{
	{pkg: "domain", ours: []string{"domain"}, std: pure},
	{pkg: "domain/fault", std: append([]string{"context"}, pure...)}, // tells cancelled and expired contexts apart
	{pkg: "ports", ours: []string{"domain"}, std: append([]string{"context"}, pure...)},
	{pkg: "ports/portstest", ours: []string{"domain", "ports"}, vendors: []string{"pgregory.net/rapid", "github.com/google/go-cmp"}},
	{pkg: "app", ours: []string{"domain", "ports"}, std: append([]string{"context", "runtime/debug", "sync", "sync/atomic"}, pure...)},

	{pkg: "adapters/httpapi", ours: []string{"domain", "app", "ports"},
		vendors: []string{"github.com/go-kit/kit", "github.com/getkin/kin-openapi", "github.com/go-json-experiment/json", "github.com/cespare/xxhash/v2"}, notStd: []string{"database/sql"}},
	{pkg: "adapters/httpapi/aisdk", ours: []string{"domain", "app", "ports", "adapters/httpapi$"}, notStd: []string{"database/sql"}},
	{pkg: "adapters/httpapi/rest", ours: []string{"domain", "app", "ports", "adapters/httpapi$"},
		vendors: []string{"github.com/yuin/goldmark", "github.com/microcosm-cc/bluemonday"}, notStd: []string{"database/sql"}},
	{pkg: "adapters/httpapi/web", ours: []string{"domain", "adapters/httpapi$"}, notStd: []string{"database/sql"}},
	{pkg: "adapters/blobs", ours: []string{"domain", "ports"},
		vendors: []string{"gocloud.dev", "github.com/gabriel-vasile/mimetype"}},
	{pkg: "adapters/identity", ours: []string{"domain", "ports"},
		vendors: []string{"github.com/go-jose/go-jose/v4", "github.com/coreos/go-oidc/v3", "github.com/jackc/pgx/v5"}},
	{pkg: "adapters/memory", ours: []string{"domain", "ports"}},
	{pkg: "adapters/observe", ours: []string{"domain", "ports"},
		vendors: []string{"github.com/prometheus/client_golang", "go.opentelemetry.io/otel", "github.com/uptrace/bun", "github.com/getsentry/sentry-go"}},
	{pkg: "adapters/prisma", ours: []string{"domain", "ports"}, vendors: []string{"github.com/jackc/pgx/v5"}},
	{pkg: "adapters/providers", ours: []string{"domain", "ports", "adapters/providers"},
		vendors: []string{"github.com/sony/gobreaker/v2", "golang.org/x/sync/semaphore"}},
	{pkg: "adapters/providers/anthropic", ours: []string{"domain", "ports", "adapters/providers/upstream"},
		vendors: []string{"github.com/tidwall/gjson"}},
	{pkg: "adapters/providers/openai", ours: []string{"domain", "ports", "adapters/providers/upstream"},
		vendors: []string{"github.com/tidwall/gjson"}},
	{pkg: "adapters/providers/upstream", ours: []string{"domain", "ports"},
		vendors: []string{"github.com/tidwall/gjson"}},
	{pkg: "adapters/redis", ours: []string{"domain", "ports"},
		vendors: []string{"github.com/redis/go-redis/v9"}},
	{pkg: "adapters/sqlstore", ours: []string{"domain", "ports", "adapters/sqlstore"},
		vendors: []string{"github.com/go-json-experiment/json", "github.com/uptrace/bun", "github.com/jackc/pgx/v5", "modernc.org/sqlite", "ariga.io/atlas", "golang.org/x/text"}},

	{pkg: "adapters/webhooks", ours: []string{"domain", "ports"}},

	{pkg: "platform/cli"},
	{pkg: "platform/config", vendors: []string{"*"}},
	{pkg: "platform/telemetry", vendors: []string{"*"}},
	{pkg: "platform/testing/testenv", ours: []string{"platform/testing/testenv"},
		vendors: []string{"github.com/jackc/pgx/v5"}}, // every test program links it
	{pkg: "platform/testing/testdb", ours: []string{"adapters/sqlstore", "platform/testing/testenv"}, vendors: []string{"github.com/jackc/pgx/v5"}},
	{pkg: "platform/ops", ours: []string{"adapters/sqlstore/migrations"},
		vendors: []string{"github.com/jackc/pgx/v5", "github.com/redis/go-redis/v9", "github.com/prometheus/common", "github.com/prometheus/client_model"}},
	{pkg: "platform/doctor", ours: []string{"adapters/sqlstore", "platform/config"}, vendors: []string{"github.com/redis/go-redis/v9"}},
	{pkg: "platform/boot", ours: []string{"domain", "ports", "app", "adapters", "platform/cli", "platform/config", "platform/doctor", "platform/ops", "platform/telemetry"}, vendors: []string{"*"}},
	{pkg: "platform/testing/chaostest", ours: []string{"domain", "ports", "adapters", "platform/testing/testenv"}, vendors: []string{"*"}},
	{pkg: "platform/testing/e2e"}, // only tests
	{pkg: "platform/testing/incidents", vendors: []string{"github.com/prometheus/prometheus", "github.com/prometheus/common", "go.yaml.in/yaml/v3"}},
	{pkg: "platform/testing/rolling"}, // only tests
	{pkg: "platform/testing/testworld", ours: []string{"adapters/providers/stub", "platform/testing/testenv"}},
	{pkg: "platform/testing/bench", ours: []string{"platform/testing/bench", "platform/testing/testenv"}, vendors: []string{"github.com/jackc/pgx/v5", "modernc.org/sqlite"}},
	{pkg: "deploy/release", vendors: []string{"github.com/google/uuid"}},
	{pkg: "dashboards", ours: []string{"dashboards"}, vendors: []string{"*"}},
	{pkg: ".", ours: []string{"platform/boot"}},
}

// pure is what the inner layers may use of the standard library: nothing that
// reads a file, opens a connection, logs or looks at the environment. Reading a
// clock is left to callers by convention.
var pure = []string{
	"bufio", "bytes", "cmp", "crypto/aes", "crypto/cipher", "crypto/ed25519", "crypto/hkdf", "crypto/hmac", "crypto/rand", "crypto/sha256",
	"encoding/base64", "encoding/binary", "encoding/hex", "encoding/json", "errors", "fmt", "io", "iter", "maps", "math", "math/rand/v2",
	"regexp", "slices", "strconv", "strings", "time", "unicode", "unicode/utf16", "unicode/utf8",
}

// reserved packages are imported by nobody but the packages named, and tests.
var reserved = map[string][]string{
	"platform/boot":              {"."},
	"platform/testing/testenv":   {"platform/testing/testenv", "platform/testing/testdb", "platform/testing/chaostest", "platform/testing/bench", "platform/testing/testworld"},
	"platform/testing/testdb":    {},
	"ports/portstest":            {},
	"platform/testing/testworld": {},
	"adapters/providers/stub":    {"platform/testing/chaostest", "platform/testing/testworld"},
}

// TestBoundary reads the imports of every file that is no test.
func TestBoundary(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		source, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		files++
		for _, breach := range breaches(filepath.ToSlash(rel), source) {
			t.Error(breach)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 20 {
		t.Errorf("only %d files were read: is %s the module's root?", files, root)
	}
}

// TestBoundary_CatchesBreaches keeps the test above honest.
func TestBoundary_CatchesBreaches(t *testing.T) {
	for _, c := range []struct {
		file, imports string
		want          []string
	}{
		{"domain/chat/x.go", `"strings"; "parley/domain/fault"`, nil},
		{"domain/chat/x.go", `"parley/ports"`, []string{"domain/chat/x.go: domain may not import parley/ports"}},
		{"domain/chat/x.go", `"net/http"`, []string{"domain/chat/x.go: domain may not import net/http"}},
		{"domain/chat/x.go", `"context"`, []string{"domain/chat/x.go: domain may not import context"}},
		{"app/gate/x.go", `"context"; "sync"`, nil},
		{"app/gate/x.go", `"os"`, []string{"app/gate/x.go: app may not import os"}},
		{"app/gate/x.go", `"io/fs"`, []string{"app/gate/x.go: app may not import io/fs"}},
		{"ports/x.go", `"log/slog"`, []string{"ports/x.go: ports may not import log/slog"}},
		{"ports/x.go", `"github.com/uptrace/bun"`, []string{"ports/x.go: ports may not import github.com/uptrace/bun"}},
		{"app/gate/x.go", `o "go.opentelemetry.io/otel"`, []string{"app/gate/x.go: app may not import go.opentelemetry.io/otel"}},
		{"app/gate/x.go", `_ "parley/adapters/memory"`, []string{"app/gate/x.go: app may not import parley/adapters/memory"}},
		{"adapters/httpapi/x.go", `"net/http"; "github.com/go-kit/kit/endpoint"; "parley/app/gate"`, nil},
		{"adapters/httpapi/x.go", `"parley/adapters/sqlstore"`, []string{"adapters/httpapi/x.go: adapters/httpapi may not import parley/adapters/sqlstore"}},
		{"adapters/httpapi/rest/x.go", `"parley/adapters/httpapi"; "parley/app/replies"`, nil},
		{"adapters/httpapi/rest/x.go", `"parley/adapters/httpapi/aisdk"`, []string{"adapters/httpapi/rest/x.go: adapters/httpapi/rest may not import parley/adapters/httpapi/aisdk"}},
		{"adapters/httpapi/x.go", `"parley/adapters/httpapi/rest"`, []string{"adapters/httpapi/x.go: adapters/httpapi may not import parley/adapters/httpapi/rest"}},
		{"adapters/redis/x.go", `"parley/adapters/memory"`, []string{"adapters/redis/x.go: adapters/redis may not import parley/adapters/memory"}},
		{"adapters/redis/x.go", `"github.com/redis/go-redis/v9"`, nil},
		{"adapters/redis/x.go", `"github.com/redis/go-redis/v99"`, []string{"adapters/redis/x.go: adapters/redis may not import github.com/redis/go-redis/v99"}},
		{"adapters/providers/openai/x.go", `"github.com/tidwall/sjson"`, []string{"adapters/providers/openai/x.go: adapters/providers/openai may not import github.com/tidwall/sjson"}},
		{"platform/config/x.go", `"parley/domain/access"`, []string{"platform/config/x.go: platform/config may not import parley/domain/access"}},
		{"platform/boot/x.go", `"parley/ports/portstest"`, []string{"platform/boot/x.go: parley/ports/portstest is for tests and []"}},
		{"adapters/observe/x.go", `"parley/platform/boot"`, []string{
			"adapters/observe/x.go: adapters/observe may not import parley/platform/boot",
			"adapters/observe/x.go: parley/platform/boot is for tests and [.]"}},
		{"main.go", `"parley/platform/boot"`, nil},
		{"main.go", `"parley/app/gate"`, []string{"main.go: . may not import parley/app/gate"}},
		{"common/x.go", `"strings"`, []string{"common/x.go: no rule for this package; add one to the table of layers"}},
	} {
		t.Run(c.file+" "+c.imports, func(t *testing.T) {
			got := breaches(c.file, []byte("package x; import ("+c.imports+")"))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// breaches lists what a source file imports against the rules.
func breaches(file string, source []byte) (out []string) {
	pkg := path.Dir(file)
	r, ok := ruleFor(pkg)
	if !ok {
		return []string{file + ": no rule for this package; add one to the table of layers"}
	}
	parsed, err := parser.ParseFile(token.NewFileSet(), file, source, parser.ImportsOnly)
	if err != nil {
		return []string{err.Error()}
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return append(out, err.Error())
		}
		if !r.allows(imported) {
			out = append(out, fmt.Sprintf("%s: %s may not import %s", file, r.pkg, imported))
		}
		for p, users := range reserved {
			if under(imported, module+"/"+p) && !under(pkg, p) && !anyUnder(pkg, users) {
				out = append(out, fmt.Sprintf("%s: %s is for tests and %v", file, imported, users))
			}
		}
	}
	return out
}

func ruleFor(pkg string) (best rule, ok bool) {
	for _, r := range rules {
		exact := r.pkg == "." && pkg == "."
		if (exact || r.pkg != "." && under(pkg, r.pkg)) && len(r.pkg) >= len(best.pkg) {
			best, ok = r, true
		}
	}
	return best, ok
}

func (r rule) allows(imported string) bool {
	if rest, ours := strings.CutPrefix(imported, module+"/"); ours {
		return anyUnder(rest, r.ours)
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") { // the standard library
		return !anyUnder(imported, r.notStd) && (r.std == nil || slices.Contains(r.std, imported))
	}
	return anyUnder(imported, r.vendors) || len(r.vendors) > 0 && r.vendors[0] == "*"
}

func anyUnder(p string, dirs []string) bool {
	for _, d := range dirs {
		if under(p, d) {
			return true
		}
	}
	return false
}

// under reports whether p is dir or lies below it. A dir that ends in $ has
// nothing below it.
func under(p, dir string) bool {
	if exact, ok := strings.CutSuffix(dir, "$"); ok {
		return p == exact
	}
	return p == dir || strings.HasPrefix(p, dir+"/")
}
