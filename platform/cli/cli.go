// Package cli parses a command line into a tree of structs, by the tags of their
// fields. It looks up no method by a computed name: a program that can do so
// keeps every exported method of every type that it uses (docs/adr/0070).
//
// A field is a command if it is tagged cmd, a positional argument if it is tagged
// arg, and otherwise a flag. The tags:
//
//	name:"url"            instead of the field's name in lower case with hyphens
//	help:"..."            one line for --help
//	default:"..."         value of a flag that is not given; of a command: it is
//	                      the one that runs if none is named
//	required, optional    a flag that must be given; an argument that need not be
//	enum:"a,b"            the values that are accepted
//	xor:"group"           at most one flag of the group may be given, and if they
//	                      are required, one must be
//	placeholder:"FILE"    how --help writes the value
//	type:"path"           a path, which becomes absolute
//
// Fields are strings, bools, ints, durations or slices of strings. A slice takes
// values that are separated by commas, and repeated flags.
package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

var (
	tagNames  = regexp.MustCompile(`([a-z]+):"(?:[^"\\]|\\.)*"`)
	knownTags = []string{"cmd", "arg", "name", "help", "default", "required", "optional", "enum", "xor", "placeholder", "type"}
)

// Help is returned in place of a command for which --help was given.
type Help struct{ Text string }

// Error implements error.
func (Help) Error() string { return "help was requested" }

// Parse fills in the structs of root, which is a pointer to the top one, and
// returns a pointer to the struct of the command that args names. The error is a
// Help, or names the mistake in args. A root with a mistake in its own tags
// panics.
func Parse(program, about string, root any, args []string) (any, error) {
	top := newCommand(program, about, reflect.ValueOf(root).Elem())
	at := top
	var words []string
	for rest := args; len(rest) > 0; {
		word := rest[0]
		rest = rest[1:]
		switch {
		case word == "--":
			words, rest = append(words, rest...), nil
		case word == "-h" || word == "--help":
			return nil, Help{at.help()}
		case strings.HasPrefix(word, "-") && len(word) > 1 && !isNumber(word):
			at = at.leaf()
			left, err := at.setFlag(word, rest)
			if err != nil {
				return nil, err
			}
			rest = left
		default:
			if next := at.command(word); next != nil {
				at = next
				continue
			}
			if len(at.commands) > 0 && (at.leaf() == at || len(at.leaf().args) == 0) {
				return nil, fmt.Errorf("unexpected argument %s", word)
			}
			at = at.leaf()
			words = append(words, word)
		}
	}
	at = at.leaf()
	if len(at.commands) > 0 {
		return nil, fmt.Errorf("expected one of %s", strings.Join(at.names(), ", "))
	}
	if err := at.finish(words); err != nil {
		return nil, err
	}
	return at.target.Addr().Interface(), nil
}

// command is a struct of the tree.
type command struct {
	path, about string
	target      reflect.Value
	commands    []*command
	flags, args []*value
	isDefault   bool
}

// value is a field that a flag or an argument sets.
type value struct {
	name, help, placeholder string
	field                   reflect.Value
	fallback                string // the value if none is given
	hasFallback, required   bool
	enum                    []string
	group                   string // of flags that exclude each other
	path                    bool
	given                   bool
}

func newCommand(path, about string, target reflect.Value) *command {
	c := &command{path: path, about: about, target: target}
	for i := range target.NumField() {
		field := target.Type().Field(i)
		for _, tag := range tagNames.FindAllStringSubmatch(string(field.Tag), -1) {
			if !slices.Contains(knownTags, tag[1]) {
				panic(fmt.Sprintf("cli: %s %s: unknown tag %s", path, field.Name, tag[1]))
			}
		}
		has := func(tag string) bool { _, ok := field.Tag.Lookup(tag); return ok }
		name := field.Tag.Get("name")
		if name == "" {
			name = hyphenated(field.Name)
		}
		if has("cmd") {
			sub := newCommand(path+" "+name, field.Tag.Get("help"), target.Field(i))
			sub.isDefault = has("default")
			c.commands = append(c.commands, sub)
			continue
		}
		v := &value{
			name: name, help: field.Tag.Get("help"), placeholder: field.Tag.Get("placeholder"), field: target.Field(i),
			fallback: field.Tag.Get("default"), hasFallback: has("default"), required: has("required"),
			group: field.Tag.Get("xor"), path: field.Tag.Get("type") == "path",
		}
		if list := field.Tag.Get("enum"); list != "" {
			v.enum = strings.Split(list, ",")
		}
		if has("arg") {
			v.required = !has("optional")
			c.args = append(c.args, v)
		} else {
			c.flags = append(c.flags, v)
		}
		v.mustBeKnown(path)
	}
	return c
}

// mustBeKnown panics if a field is of a type that no value can be given for.
func (v *value) mustBeKnown(command string) {
	if v.path && v.field.Kind() == reflect.String || v.field.Type() == reflect.TypeFor[time.Duration]() {
		return
	}
	switch v.field.Interface().(type) {
	case string, bool, int, []string:
	default:
		panic(fmt.Sprintf("cli: %s %s: values of type %s cannot be read", command, v.name, v.field.Type()))
	}
}

// hyphenated turns the name of a field into that of a flag: MaxSize into max-size,
// URL into url.
func hyphenated(name string) string {
	var b strings.Builder
	before := ' '
	for _, r := range name {
		if unicode.IsUpper(r) && unicode.IsLower(before) {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
		before = r
	}
	return b.String()
}

func isNumber(word string) bool {
	_, err := strconv.ParseFloat(word, 64)
	return err == nil
}

// command returns the subcommand of a name, or nil.
func (c *command) command(name string) *command {
	for _, sub := range c.commands {
		if strings.HasSuffix(sub.path, " "+name) {
			return sub
		}
	}
	return nil
}

// leaf returns the command that runs if no further one is named.
func (c *command) leaf() *command {
	for _, sub := range c.commands {
		if sub.isDefault {
			return sub.leaf()
		}
	}
	return c
}

func (c *command) names() []string {
	var list []string
	for _, sub := range c.commands {
		list = append(list, strconv.Quote(sub.path[strings.LastIndexByte(sub.path, ' ')+1:]))
	}
	return list
}

// setFlag sets the flag of a word, which may take its value from the words behind
// it, and returns those that are left.
func (c *command) setFlag(word string, rest []string) ([]string, error) {
	name, text, inline := strings.Cut(strings.TrimPrefix(word, "--"), "=")
	i := slices.IndexFunc(c.flags, func(v *value) bool { return v.name == name })
	if i < 0 || !strings.HasPrefix(word, "--") {
		return nil, fmt.Errorf("unknown flag %s", strings.SplitN(word, "=", 2)[0])
	}
	flag := c.flags[i]
	switch {
	case inline:
	case flag.field.Kind() == reflect.Bool:
		text = "true"
	case len(rest) == 0 || strings.HasPrefix(rest[0], "--"):
		return nil, fmt.Errorf("--%s: expected a value", name)
	default:
		text, rest = rest[0], rest[1:]
	}
	if err := flag.set(text); err != nil {
		return nil, fmt.Errorf("--%s: %w", name, err)
	}
	return rest, nil
}

// set sets the field.
func (v *value) set(text string) error {
	if err := v.checkEnum(text); err != nil {
		return err
	}
	first := !v.given
	v.given = true
	switch {
	case v.field.Type() == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("expected a duration such as 90s or 24h, but got %q", text)
		}
		v.field.SetInt(int64(d))
	case v.field.Kind() == reflect.String:
		if v.path {
			var err error
			if text, err = absolute(text); err != nil {
				return err
			}
		}
		v.field.SetString(text)
	case v.field.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("expected true or false, but got %q", text)
		}
		v.field.SetBool(b)
	case v.field.Kind() == reflect.Int:
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("expected a number, but got %q", text)
		}
		v.field.SetInt(int64(n))
	case v.field.Kind() == reflect.Slice:
		var list []string
		if !first {
			list = v.field.Interface().([]string) //nolint:forcetypeassert // see mustBeKnown
		}
		v.field.Set(reflect.ValueOf(append(list, strings.Split(text, ",")...)))
	}
	return nil
}

func (v *value) checkEnum(text string) error {
	if v.enum == nil {
		return nil
	}
	values := []string{text}
	if v.field.Kind() == reflect.Slice {
		values = strings.Split(text, ",")
	}
	for _, one := range values {
		if !slices.Contains(v.enum, one) {
			return fmt.Errorf("must be one of %s, but got %q", strings.Join(v.enum, ", "), one)
		}
	}
	return nil
}

// absolute expands ~ and makes a path absolute.
func absolute(path string) (string, error) {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("find the home directory: %w", err)
		}
		return filepath.Join(home, rest), nil
	}
	return filepath.Abs(path)
}

// finish sets the arguments and everything that was not given.
func (c *command) finish(words []string) error {
	for _, arg := range c.args {
		if len(words) == 0 {
			break
		}
		n := 1
		if arg.field.Kind() == reflect.Slice {
			n = len(words)
		}
		for _, word := range words[:n] {
			if err := arg.set(word); err != nil {
				return fmt.Errorf("<%s>: %w", arg.name, err)
			}
		}
		words = words[n:]
	}
	if len(words) > 0 {
		return fmt.Errorf("unexpected argument %s", words[0])
	}
	for _, v := range slices.Concat(c.flags, c.args) {
		if v.given || !v.hasFallback || v.fallback == "" {
			continue
		}
		if err := v.set(v.fallback); err != nil {
			panic(fmt.Sprintf("cli: default of %s %s: %v", c.path, v.name, err))
		}
		v.given = false
	}
	return errors.Join(c.checkGroups(), c.checkMissing())
}

// checkGroups refuses flags that exclude each other.
func (c *command) checkGroups() error {
	given := map[string]string{}
	for _, flag := range c.flags {
		if flag.group == "" || !flag.given {
			continue
		}
		if other := given[flag.group]; other != "" {
			return fmt.Errorf("--%s and --%s cannot be used together", other, flag.name)
		}
		given[flag.group] = flag.name
	}
	return nil
}

// checkMissing names everything that is required and was not given.
func (c *command) checkMissing() error {
	for _, arg := range c.args {
		if arg.required && !arg.given {
			return fmt.Errorf("expected %q", "<"+arg.name+">")
		}
	}
	var missing []string
	groups := map[string]bool{}
	for _, flag := range c.flags {
		switch {
		case !flag.required:
		case flag.group == "":
			if !flag.given {
				missing = append(missing, "--"+flag.name)
			}
		case !groups[flag.group]:
			groups[flag.group] = true
			if names := c.groupMissing(flag.group); names != "" {
				missing = append(missing, names)
			}
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("missing flags: %s", strings.Join(missing, ", "))
	}
	return nil
}

// groupMissing returns the flags of a group, or "" if one of them is given.
func (c *command) groupMissing(group string) string {
	var names []string
	for _, flag := range c.flags {
		if flag.group != group {
			continue
		}
		if flag.given {
			return ""
		}
		names = append(names, "--"+flag.name)
	}
	return strings.Join(names, " or ")
}
