package docs_test

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"parley/platform/config"
)

// TestOperations: docs/operations.md says how to rotate every secret of the
// configuration.
func TestOperations(t *testing.T) {
	text, err := os.ReadFile("operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n## How to rotate each secret\n")
	if !found {
		t.Fatal("the section is not there")
	}
	names := secretVariables(reflect.TypeFor[config.Config]())
	if len(names) < 10 {
		t.Errorf("only %v are secrets", names)
	}
	for _, name := range names {
		first := false
		for _, line := range strings.Split(table, "\n") {
			cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
			first = first || strings.HasPrefix(line, "| ") && strings.Contains(cell, "`"+name+"`")
		}
		if !first {
			t.Errorf("how to rotate %s is not said", name)
		}
	}
}

// secretVariables lists the variables of the secrets in a struct and those below it.
func secretVariables(of reflect.Type) (names []string) {
	for i := range of.NumField() {
		field := of.Field(i)
		switch {
		case field.Type == reflect.TypeFor[config.Secret](), field.Type == reflect.TypeFor[[]config.Secret]():
			name, _, _ := strings.Cut(field.Tag.Get("env"), ",")
			names = append(names, name)
		case field.Type.Kind() == reflect.Struct:
			names = append(names, secretVariables(field.Type)...)
		}
	}
	return names
}
