//go:generate go test -run TestConfiguration . -update

package config

import (
	"fmt"
	"reflect"
	"strings"
)

// Variable is one setting as documentation shows it.
type Variable struct {
	Section     string
	Name        string
	Default     string
	Description string
	field       string
}

// Variables lists every setting in the order of Config.
func Variables() []Variable {
	var out []Variable
	for section := range reflect.TypeFor[Config]().Fields() {
		for f := range section.Type.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
			out = append(out, Variable{
				Section: section.Tag.Get("title"), Name: name, Default: f.Tag.Get("envDefault"),
				Description: f.Tag.Get("desc"), field: f.Name,
			})
		}
	}
	return out
}

// Table returns the settings as a Markdown table, as docs/configuration.md holds it.
func Table() string {
	var b strings.Builder
	b.WriteString("| Variable | Default | Meaning |\n|---|---|---|\n")
	section := ""
	for _, v := range Variables() {
		if v.Section != section {
			section = v.Section
			fmt.Fprintf(&b, "| **%s** | | |\n", section)
		}
		def := ""
		if v.Default != "" {
			def = "`" + v.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", v.Name, def, v.Description)
	}
	return b.String()
}
