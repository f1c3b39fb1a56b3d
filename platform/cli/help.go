package cli

import (
	"fmt"
	"reflect"
	"strings"
)

// helpWidth is the length at which lines of --help are wrapped.
const helpWidth = 100

// help returns what --help prints for a command.
func (c *command) help() string {
	var b strings.Builder
	b.WriteString("Usage: " + c.usage() + "\n")
	if c.about != "" {
		b.WriteString("\n" + wrapped(c.about, 0) + "\n")
	}
	var commands, args, flags [][2]string
	for _, sub := range c.commands {
		sub.list(len(c.path)+1, &commands)
	}
	for _, arg := range c.args {
		args = append(args, [2]string{arg.shown(), arg.help})
	}
	flags = append(flags, [2]string{"-h, --help", "Show this help."})
	for _, flag := range c.flags {
		flags = append(flags, [2]string{"    --" + flag.name + flag.suffix(), flag.explained()})
	}
	section(&b, "Arguments", args)
	section(&b, "Commands", commands)
	section(&b, "Flags", flags)
	if len(c.commands) > 0 {
		b.WriteString("\nRun \"" + c.path + " <command> --help\" for the flags of a command.\n")
	}
	return b.String()
}

func (c *command) usage() string {
	parts := []string{c.path}
	if len(c.commands) > 0 {
		parts = append(parts, "<command>")
	}
	for _, arg := range c.args {
		parts = append(parts, arg.shown())
	}
	for _, flag := range c.flags {
		if flag.required && flag.group == "" {
			parts = append(parts, "--"+flag.name+flag.suffix())
		}
	}
	return strings.Join(append(parts, "[flags]"), " ")
}

// list adds the commands below c that run, without the first bytes of their paths.
func (c *command) list(cut int, to *[][2]string) {
	if len(c.commands) == 0 {
		*to = append(*to, [2]string{c.path[cut:], c.about})
	}
	for _, sub := range c.commands {
		sub.list(cut, to)
	}
}

// shown returns an argument as the usage writes it.
func (v *value) shown() string {
	name := "<" + v.name + ">"
	if v.field.Kind() == reflect.Slice {
		name += " ..."
	}
	if !v.required {
		return "[" + name + "]"
	}
	return name
}

// suffix returns how the value of a flag is written.
func (v *value) suffix() string {
	switch {
	case v.field.Kind() == reflect.Bool:
		return ""
	case v.placeholder != "":
		return "=" + v.placeholder
	case v.fallback != "":
		return "=" + v.fallback
	}
	return "=" + strings.ToUpper(v.name)
}

// explained returns the help of a flag with what its suffix does not show.
func (v *value) explained() string {
	if v.placeholder != "" && v.fallback != "" {
		return fmt.Sprintf("%s (%s)", v.help, v.fallback)
	}
	return v.help
}

// section writes rows of two columns below a title.
func section(b *strings.Builder, title string, rows [][2]string) {
	if len(rows) == 0 {
		return
	}
	width := 0
	for _, row := range rows {
		width = max(width, len(row[0]))
	}
	b.WriteString("\n" + title + ":\n")
	for _, row := range rows {
		fmt.Fprintf(b, "  %-*s  %s\n", width, row[0], wrapped(row[1], width+4))
	}
}

// wrapped breaks a text into lines, of which all but the first begin with spaces.
func wrapped(text string, indent int) string {
	var b strings.Builder
	column := indent
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > helpWidth:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			column = indent
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
