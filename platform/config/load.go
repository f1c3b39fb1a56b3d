package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Load reads the settings from an environment in the form of os.Environ and
// checks them. A variable that is set to nothing counts as unset. The error
// names every variable that is wrong and never repeats a value.
func Load(environ []string) (Config, error) {
	vars := map[string]string{}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok && strings.TrimSpace(value) != "" {
			vars[name] = strings.TrimSpace(value)
		}
	}
	var c Config
	if err := env.ParseWithOptions(&c, env.Options{Environment: vars}); err != nil {
		return Config{}, explain(err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	c.applyURL(vars)
	return c, nil
}

// explain replaces the parser's errors, which quote values, by errors that do not.
func explain(err error) error {
	var all env.AggregateError
	if !errors.As(err, &all) {
		return errors.New("configuration cannot be read")
	}
	names := map[string]string{}
	for _, v := range Variables() {
		names[v.field] = v.Name
	}
	var out []error
	for _, e := range all.Errors {
		var parse env.ParseError
		if !errors.As(e, &parse) {
			return errors.New("configuration cannot be read")
		}
		out = append(out, fmt.Errorf("%s must be %s", names[parse.Name], noun(parse.Type)))
	}
	return errors.Join(out...)
}

func noun(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return noun(t.Elem())
	case t == reflect.TypeFor[time.Duration]():
		return "a duration such as 500ms, 25s or 2m"
	case t == reflect.TypeFor[[]netip.Prefix]():
		return "address ranges such as 10.0.0.0/8, separated by commas"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		return "a whole number"
	case t.Kind() == reflect.Float64:
		return "a number"
	}
	return "a valid value"
}
