package httpapi

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"parley/domain/fault"
)

func TestCheckObject(t *testing.T) {
	nested := func(n int) string { return `{"a":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}` }
	for name, tt := range map[string]struct {
		in string
		ok bool
	}{
		"Empty":            {`{}`, true},
		"Space":            {" \t\r\n{ \"a\" : [ 1 , 2 ] } \n", true},
		"Everything":       {`{"a":[true,false,null,-0.5e+10,1E9,0,"x"],"b":{"c":{}}}`, true},
		"Escapes":          {`{"a":"\"\\\/\b\f\n\r\t\u00e9"}`, true},
		"SurrogatePair":    {`{"a":"\ud83d\ude00"}`, true},
		"SameKeyElsewhere": {`{"a":{"a":1},"b":{"a":1}}`, true},
		"Depth32":          {nested(32), true},
		"LargeNumber":      {`{"a":-9.5e300,"b":1E-400,"c":` + strings.Repeat("1", 309) + `}`, true},
		"LongExponent":     {`{"a":1e+000000000000000000000000300}`, true},

		"Depth33":           {nested(33), false},
		"Nothing":           {``, false},
		"Null":              {`null`, false},
		"Array":             {`[]`, false},
		"Text":              {`"a"`, false},
		"Trailing":          {`{} {}`, false},
		"TrailingText":      {`{}x`, false},
		"TrailingNUL":       {"{}\x00", false},
		"Cut":               {`{"a":`, false},
		"CutText":           {`{"a":"`, false},
		"CutEscape":         {`{"a":"\`, false},
		"CutUnit":           {`{"a":"\u00`, false},
		"TrailingComma":     {`{"a":1,}`, false},
		"TrailingCommaList": {`{"a":[1,]}`, false},
		"KeyIsNoText":       {`{a:1}`, false},
		"SingleQuotes":      {`{'a':1}`, false},
		"Comment":           {`{/**/}`, false},
		"LeadingZero":       {`{"a":01}`, false},
		"Plus":              {`{"a":+1}`, false},
		"BareDot":           {`{"a":1.}`, false},
		"BareExponent":      {`{"a":1e}`, false},
		"NaN":               {`{"a":NaN}`, false},
		"Minus":             {`{"a":-}`, false},
		"HugeExponent":      {`{"a":1e309}`, false},
		"TinyExponent":      {`{"a":1e-401}`, false},
		"EndlessExponent":   {`{"a":1e99999999999999999999}`, false},
		"LongNumber":        {`{"a":` + strings.Repeat("1", 401) + `}`, false},
		"HalfLiteral":       {`{"a":tru}`, false},
		"BadEscape":         {`{"a":"\x41"}`, false},
		"SignedUnit":        {`{"a":"\u+041"}`, false},
		"SpacedUnit":        {`{"a":"\u 041"}`, false},
		"RawControl":        {"{\"a\":\"\n\"}", false},
		"SameKey":           {`{"a":1,"a":2}`, false},
		"SameKeyEscaped":    {`{"a":1,"\u0061":2}`, false},
		"SameKeyInside":     {`{"a":[{"b":1,"b":1}]}`, false},
		"NUL":               {`{"a":"\u0000"}`, false},
		"NULKey":            {`{"\u0000":1}`, false},
		"NamedSurrogate":    {`{"surrogate":{"surrogate":nil}}`, false},
		"LoneHigh":          {`{"a":"\ud800"}`, false},
		"LoneHighThenText":  {`{"a":"\ud800abcdef"}`, false},
		"LoneLow":           {`{"a":"\udc00"}`, false},
		"TwoHigh":           {`{"a":"\ud800\ud800"}`, false},
		"InvalidUTF8":       {"{\"a\":\"\xff\"}", false},
		"EncodedSurrogate":  {"{\"a\":\"\xed\xa0\x80\"}", false},
		"Overlong":          {"{\"a\":\"\xc0\x80\"}", false},
		"ByteOrderMark":     {"\ufeff{}", false},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.ok && !json.Valid([]byte(tt.in)) {
				t.Fatal("the test itself is wrong")
			}
			_, err := checkObject([]byte(tt.in))
			if tt.ok != (err == nil) {
				t.Fatalf("%q: %v", tt.in, err)
			}
			if err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("kind of %v", err)
			}
			lone := map[string]bool{"LoneHigh": true, "LoneHighThenText": true, "LoneLow": true, "TwoHigh": true, "InvalidUTF8": true, "EncodedSurrogate": true, "Overlong": true}
			if err != nil && lone[name] != strings.Contains(err.Error(), "Unicode") {
				t.Errorf("says %v", err)
			}
		})
	}
}

// FuzzCheckObject: what passes is JSON that the standard library reads
// likewise; what does not pass, although it is a JSON object, has one of the
// known faults.
func FuzzCheckObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"content":"hi","metadata":{"a":[1,2.5e-3,null,true]}}`, `{"a":"\ud83d\ude00"}`, `{"a":"\ud800"}`,
		`{"a":1,"a":2}`, `{"a":"\u0000"}`, "{\"a\":\"\xff\"}", `[[[[`, `{"a":{"b":{"c":"d"}}}`, `{"a":-0.0E+1}`, `{"":""}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		names, err := checkObject(in)
		var members map[string]json.RawMessage
		plain := json.Unmarshal(in, &members)
		if err == nil {
			if plain != nil || members == nil {
				t.Fatalf("%q passes, and is no object: %v", in, plain)
			}
			if len(names) != len(members) {
				t.Fatalf("%q: names %q, members %d", in, names, len(members))
			}
			for _, name := range names {
				if _, ok := members[name]; !ok {
					t.Fatalf("%q: there is no member %q", in, name)
				}
			}
			return
		}
		if plain != nil || members == nil {
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(in))
		depth, deepest, keys := 0, 0, 0
		for {
			token, err := decoder.Token()
			if err != nil {
				break
			}
			switch token {
			case json.Delim('{'), json.Delim('['):
				depth++
				deepest = max(deepest, depth)
			case json.Delim('}'), json.Delim(']'):
				depth--
			}
			if _, ok := token.(string); ok {
				keys++
			}
		}
		lower := bytes.ToLower(in)
		excused := len(in) > maxNumber || regexp.MustCompile(`(?i)e[+-]?\d{3}`).Match(in) ||
			deepest > maxDepth || keys > 1 || !utf8.Valid(in) ||
			bytes.Contains(lower, []byte(`\u0000`)) || bytes.Contains(lower, []byte(`\ud`))
		if !excused {
			t.Fatalf("%q is refused: %v", in, err)
		}
	})
}
