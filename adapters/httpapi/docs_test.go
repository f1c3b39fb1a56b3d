package httpapi_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/httpapi"
	"parley/adapters/httpapi/aisdk"
	"parley/adapters/httpapi/rest"
	"parley/app/files"
)

// newAPI returns an API that can describe itself, and nothing else.
func newAPI(configure ...func(*httpapi.Config)) (*httpapi.API, error) {
	var c httpapi.Config
	for _, set := range configure {
		set(&c)
	}
	return httpapi.New(c, rest.Routes(rest.Services{Files: &files.Service{MaxBytes: maxFile, Types: fileTypes}}), aisdk.Routes(nil, nil, nil))
}

// TestDocs: docs/api.md names every route and every code.
func TestDocs(t *testing.T) {
	raw, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	api, err := newAPI()
	if err != nil {
		t.Fatal(err)
	}
	docs := string(raw)
	for _, route := range api.Routes() {
		if !strings.Contains(docs, "`"+route.Label()+"`") {
			t.Errorf("docs/api.md does not list %s", route.Label())
		}
		for _, f := range route.Fields {
			if f.In != "path" && !strings.Contains(docs, "`"+f.Name) && !strings.Contains(docs, "?"+f.Name+"=") {
				t.Errorf("docs/api.md does not mention %s %s of %s", f.In, f.Name, route.Label())
			}
		}
	}
	for kind := range httpapi.StatusOf {
		if !strings.Contains(docs, "`"+string(kind)+"`") {
			t.Errorf("docs/api.md does not mention %s", kind)
		}
	}
}

// TestDocs_Security: every test that docs/security.md names exists.
func TestDocs_Security(t *testing.T) {
	raw, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	err = filepath.WalkDir("../..", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, "_test.go") {
			return err
		}
		source, err := os.ReadFile(file)
		for _, name := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)`).FindAllSubmatch(source, -1) {
			tests[string(name[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`").FindAllSubmatch(raw, -1)
	if len(named) < 40 {
		t.Errorf("only %d tests are named", len(named))
	}
	for _, name := range named {
		if !tests[string(name[1])] {
			t.Errorf("there is no %s", name[1])
		}
	}
}

// Middleware outside learns from the routes which of them ask for a reply.
func TestAPI_Sends(t *testing.T) {
	api, err := newAPI()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, route := range api.Routes() {
		if api.Sends(route.Method, route.Path) {
			got = append(got, route.Label())
		}
	}
	want := []string{
		"POST /api/chat/messages", "POST /api/chat/stream", "PATCH /api/chat/messages/{id}",
		"POST /api/chat/messages/{id}/regenerate", "POST /api/chat/messages/{id}/continue",
		"POST /api/chat", "POST /api/chat/ui", "POST /api/chat/text",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if api.Sends("GET", "/api/chat/messages") || api.Sends("POST", "") {
		t.Error("a read asks for a reply")
	}
}
