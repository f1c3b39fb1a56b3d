package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"parley/domain/fault"
)

// maxDepth is the maximum nesting of arrays and objects in a request.
const maxDepth = 32

// maxNumber is the maximum length of a number, and of its negative exponent.
const maxNumber = 400

// unmarshal decodes JSON. Numbers of a value without a type of its own stay as
// they were written: they are json.Number.
func unmarshal(raw []byte, dst any) error {
	switch dst.(type) {
	case *string, *bool, *int, *float64, *[]string: // there is nothing without a type in it
		return json.Unmarshal(raw, dst)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(dst)
}

// checkObject checks a request's body as a whole and returns the names of its
// members. encoding/json is more lenient than a wire format should be: it takes
// the last of two equal keys, replaces what is not Unicode, and goes 10,000
// levels deep. What passes here is one JSON object of text and numbers that can
// be stored, so that decoding it afterwards can only fail on a type.
func checkObject(body []byte) (names []string, err error) {
	if !utf8.Valid(body) {
		return nil, errNotUnicode()
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(body))
	if d.PeekKind() != jsontext.KindBeginObject {
		return nil, errNotJSON()
	}
	for {
		token, err := d.ReadToken()
		if err != nil {
			return nil, syntaxFault(err)
		}
		switch depth := d.StackDepth(); token.Kind() {
		case jsontext.KindBeginObject, jsontext.KindBeginArray:
			if depth > maxDepth {
				return nil, fault.New(fault.Invalid, "Request body is nested deeper than %d levels", maxDepth)
			}
		case jsontext.KindString:
			text := token.String()
			if strings.ContainsRune(text, 0) {
				return nil, fault.New(fault.Invalid, "Text must not contain control characters")
			}
			if _, n := d.StackIndex(depth); depth == 1 && n%2 == 1 { // a name: its value comes next
				names = append(names, text)
			}
		case jsontext.KindNumber:
			if err := checkNumber(token.String()); err != nil {
				return nil, err
			}
		case jsontext.KindEndObject:
			if depth > 0 {
				continue
			}
			if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
				return nil, errNotJSON()
			}
			return names, nil
		}
	}
}

// checkNumber refuses a number that a store could not keep exactly (jsonb has
// room for 16,383 digits behind the point), or that most clients could not read.
func checkNumber(text string) error {
	exponent := 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		exponent, _ = strconv.Atoi(text[i+1:]) // out of range: the largest or smallest int
	}
	if _, err := strconv.ParseFloat(text, 64); err != nil || len(text) > maxNumber || exponent < -maxNumber {
		return fault.New(fault.Invalid, "Numbers must be in the range of a double and have at most %d characters", maxNumber)
	}
	return nil
}

// syntaxFault is the refusal of a body that is no strict JSON.
func syntaxFault(err error) error {
	var syntax *jsontext.SyntacticError
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		return fault.New(fault.Invalid, "Invalid JSON in request body: duplicate key")
	case errors.As(err, &syntax) && strings.HasPrefix(syntax.Err.Error(), "invalid surrogate"): // which has no value of its own
		return errNotUnicode()
	}
	return errNotJSON()
}

func errNotJSON() error { return fault.New(fault.Invalid, "Invalid JSON in request body") }

func errNotUnicode() error {
	return fault.New(fault.Invalid, "Request body must be valid Unicode text")
}
