package stub

import (
	"strconv"
	"strings"
	"time"
)

// Directives is a Script that follows the directives of the demo provider in the
// last message of the user: !echo, !long, !slow, !hang and !fail. Any other
// message is echoed.
func Directives(c Call) Reply {
	message := ""
	for _, m := range c.Messages {
		if m.Role == "user" && (strings.HasPrefix(m.Text, "!") || message == "") {
			message = m.Text
		}
	}
	// After a failed reply the messages before and after it are merged into one.
	if i := strings.LastIndex(message, "\n\n!"); i >= 0 {
		message = message[i+2:]
	}
	name, arg, _ := strings.Cut(message, " ")
	switch name {
	case "!echo":
		return Reply{Text: arg}
	case "!long":
		n, _ := strconv.Atoi(arg)
		return Reply{Text: Words(max(n, 1)), Pace: time.Millisecond}
	case "!slow":
		d, _ := time.ParseDuration(arg)
		return Reply{Text: Words(50), Pace: d / 50}
	case "!hang":
		return Reply{Hang: true}
	case "!fail":
		return Reply{Text: Words(20), Cut: Overload, After: 10}
	}
	return Reply{Text: c.Last()}
}

// Words returns a text of n words.
func Words(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("word")
		b.WriteString(strconv.Itoa(i + 1))
	}
	return b.String()
}
