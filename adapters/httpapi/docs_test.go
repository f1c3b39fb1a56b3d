package httpapi

import (
	"os"
	"strings"
	"testing"
)

// TestDocs: docs/api.md names every route and every code.
func TestDocs(t *testing.T) {
	raw, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	api, err := New(Config{})
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
				t.Errorf("docs/api.md does not tell of %s %s of %s", f.In, f.Name, route.Label())
			}
		}
	}
	for kind := range statusOf {
		if !strings.Contains(docs, "`"+string(kind)+"`") {
			t.Errorf("docs/api.md does not tell of %s", kind)
		}
	}
}
