package httpapi

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"parley/domain/fault"
)

// maxDepth is how deep arrays and objects of a request may nest.
const maxDepth = 32

// maxNumber bounds the characters of a number, and its negative exponent.
const maxNumber = 400

// unmarshal decodes JSON. Numbers of a value without a type of its own stay as
// they were written: they are json.Number.
func unmarshal(raw []byte, dst any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(dst)
}

// checkObject checks a request's body as a whole and returns the names of its
// members. encoding/json forgives more than a wire format should: it takes the
// last of two equal keys, replaces what is not Unicode, and goes 10,000 levels
// deep. What passes here is one JSON object of storable text, so that decoding
// it afterwards can only fail on a type.
func checkObject(body []byte) (names []string, err error) {
	if !utf8.Valid(body) {
		return nil, errNotUnicode()
	}
	c := checker{b: body}
	c.space()
	if c.peek() != '{' {
		return nil, errNotJSON()
	}
	names, err = c.object()
	if err != nil {
		return nil, err
	}
	if c.space(); c.i != len(c.b) {
		return nil, errNotJSON()
	}
	return names, nil
}

// checker walks over a JSON text; b[i] is the next byte.
type checker struct {
	b     []byte
	i     int
	depth int
}

func (c *checker) peek() byte {
	if c.i < len(c.b) {
		return c.b[c.i]
	}
	return 0
}

// take moves over want if it is next.
func (c *checker) take(want byte) bool {
	if c.i < len(c.b) && c.b[c.i] == want {
		c.i++
		return true
	}
	return false
}

func (c *checker) space() {
	for c.i < len(c.b) {
		switch c.b[c.i] {
		case ' ', '\t', '\n', '\r':
			c.i++
		default:
			return
		}
	}
}

func (c *checker) value() error {
	switch b := c.peek(); {
	case b == '{':
		_, err := c.object()
		return err
	case b == '[':
		return c.array()
	case b == '"':
		_, err := c.text()
		return err
	case b == 't':
		return c.literal("true")
	case b == 'f':
		return c.literal("false")
	case b == 'n':
		return c.literal("null")
	}
	return c.number()
}

func (c *checker) enter() error {
	c.i++
	if c.depth++; c.depth > maxDepth {
		return fault.New(fault.Invalid, "Request body is nested deeper than %d levels", maxDepth)
	}
	c.space()
	return nil
}

func (c *checker) object() (names []string, err error) {
	if err := c.enter(); err != nil {
		return nil, err
	}
	defer func() { c.depth-- }()
	if c.take('}') {
		return nil, nil
	}
	seen := map[string]bool{}
	for {
		name, err := c.text()
		if err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, fault.New(fault.Invalid, "Invalid JSON in request body: duplicate key")
		}
		seen[name] = true
		names = append(names, name)
		if c.space(); !c.take(':') {
			return nil, errNotJSON()
		}
		c.space()
		if err := c.value(); err != nil {
			return nil, err
		}
		c.space()
		if c.take('}') {
			return names, nil
		}
		if !c.take(',') {
			return nil, errNotJSON()
		}
		c.space()
	}
}

func (c *checker) array() error {
	if err := c.enter(); err != nil {
		return err
	}
	defer func() { c.depth-- }()
	if c.take(']') {
		return nil
	}
	for {
		if err := c.value(); err != nil {
			return err
		}
		c.space()
		if c.take(']') {
			return nil
		}
		if !c.take(',') {
			return errNotJSON()
		}
		c.space()
	}
}

// text moves over a string and returns it decoded.
func (c *checker) text() (string, error) {
	if !c.take('"') {
		return "", errNotJSON()
	}
	start, escaped := c.i, false
	for c.i < len(c.b) {
		switch b := c.b[c.i]; {
		case b == '"':
			c.i++
			if !escaped {
				return string(c.b[start : c.i-1]), nil
			}
			var s string
			if json.Unmarshal(c.b[start-1:c.i], &s) != nil {
				return "", errNotJSON()
			}
			return s, nil
		case b < ' ':
			return "", errNotJSON()
		case b == '\\':
			escaped = true
			if err := c.escape(); err != nil {
				return "", err
			}
		default:
			c.i++
		}
	}
	return "", errNotJSON()
}

// escape moves over one escape sequence, or over the two of a surrogate pair.
func (c *checker) escape() error {
	c.i++
	switch c.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		c.i++
		return nil
	case 'u':
	default:
		return errNotJSON()
	}
	u, ok := c.unit()
	switch {
	case !ok:
		return errNotJSON()
	case u == 0:
		return fault.New(fault.Invalid, "Text must not contain control characters")
	case 0xDC00 <= u && u <= 0xDFFF:
		return errNotUnicode()
	case 0xD800 <= u && u <= 0xDBFF:
		if !c.take('\\') || c.peek() != 'u' {
			return errNotUnicode()
		}
		low, ok := c.unit()
		if !ok || low < 0xDC00 || low > 0xDFFF {
			return errNotUnicode()
		}
	}
	return nil
}

// unit moves over uXXXX.
func (c *checker) unit() (uint64, bool) {
	if c.i+5 > len(c.b) {
		return 0, false
	}
	digits := string(c.b[c.i+1 : c.i+5])
	c.i += 5
	for _, d := range []byte(digits) {
		if d == '+' || d == '-' || d == '_' {
			return 0, false
		}
	}
	u, err := strconv.ParseUint(digits, 16, 16)
	return u, err == nil
}

func (c *checker) literal(want string) error {
	if len(c.b)-c.i < len(want) || string(c.b[c.i:c.i+len(want)]) != want {
		return errNotJSON()
	}
	c.i += len(want)
	return nil
}

// number moves over a number. What a store could not keep exactly is refused
// (jsonb has room for 16,383 digits behind the point), and so is what most
// clients could not read.
func (c *checker) number() error {
	start := c.i
	c.take('-')
	if !c.take('0') && !c.digits() {
		return errNotJSON()
	}
	if c.take('.') && !c.digits() {
		return errNotJSON()
	}
	exponent := 0
	if c.take('e') || c.take('E') {
		if !c.take('+') {
			c.take('-')
		}
		first := c.i
		if !c.digits() {
			return errNotJSON()
		}
		var err error
		if exponent, err = strconv.Atoi(string(c.b[first:c.i])); err != nil {
			exponent = maxNumber + 1
		}
	}
	text := c.b[start:c.i]
	if _, err := strconv.ParseFloat(string(text), 64); err != nil || len(text) > maxNumber || exponent > maxNumber {
		return fault.New(fault.Invalid, "Numbers must be in the range of a double and have at most %d characters", maxNumber)
	}
	return nil
}

func (c *checker) digits() bool {
	start := c.i
	for c.i < len(c.b) && '0' <= c.b[c.i] && c.b[c.i] <= '9' {
		c.i++
	}
	return c.i > start
}

func errNotJSON() error { return fault.New(fault.Invalid, "Invalid JSON in request body") }

func errNotUnicode() error {
	return fault.New(fault.Invalid, "Request body must be valid Unicode text")
}
