package demo

import (
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Bounds of the directives: a message cannot ask for more than a real provider
// would generate.
const (
	maxWords  = 20_000
	maxSpread = 10 * time.Minute
)

// script is the reply to one message.
type script struct {
	text   string
	spread time.Duration // over which the whole reply is spread; 0: Provider.Delay between two words
	fail   bool          // ends with an error half way
	hang   bool          // the first word never comes
}

// scriptFor reads a directive at the start of a message:
//
//	!slow 3s     the reply is spread over that time
//	!long 2000   a reply of that many words
//	!fail        the stream breaks in the middle
//	!hang        the first byte never comes
//	!echo text   that text
//
// Anything else, a directive without a usable argument included, gets the
// usual reply.
func scriptFor(message string) script {
	message = strings.TrimSpace(message)
	name, arg := message, ""
	if i := strings.IndexFunc(message, unicode.IsSpace); i > 0 {
		name, arg = message[:i], strings.TrimSpace(message[i:])
	}
	s := script{text: greeting(message)}
	switch name {
	case "!slow":
		if d, err := time.ParseDuration(arg); err == nil && d > 0 {
			s.spread = min(d, maxSpread)
		}
	case "!long":
		if n, err := strconv.Atoi(arg); err == nil && n > 0 {
			s.text = filler(min(n, maxWords))
		}
	case "!fail":
		s.fail = true
	case "!hang":
		s.hang = true
	case "!echo":
		if arg != "" {
			s.text = arg
		}
	}
	return s
}

// filler returns n words. Every hundredth is its number, which makes gaps and
// repeats visible.
func filler(n int) string {
	var b strings.Builder
	b.WriteString("[demo]")
	for i := 2; i <= n; i++ {
		b.WriteByte(' ')
		if i%100 == 0 {
			b.WriteString(strconv.Itoa(i))
		} else {
			b.WriteString(lorem[i%len(lorem)])
		}
	}
	return b.String()
}

var lorem = strings.Fields("one fine morning the old harbour woke to the sound of bells and the boats set out " +
	"one after another past the lighthouse into a calm grey sea")
