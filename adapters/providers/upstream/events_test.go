package upstream

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// readEvents returns the events of a body as "name|data", with a mark at the
// end of one that is not terminated.
func readEvents(body io.Reader) ([]string, error) {
	r := NewEventReader(body, 1<<16, 1<<16)
	list := []string{}
	for r.Next() {
		e := r.Event()
		data := string(e.Data)
		if r.Document() {
			data = strings.TrimLeft(data, " \t\r\n")
		}
		s := e.Name + "|" + data
		if e.Unterminated {
			s += "|unterminated"
		}
		list = append(list, s)
	}
	return list, r.Err()
}

func TestEventReader_Grammar(t *testing.T) {
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"LF":                     {"data: a\n\ndata: b\n\n", []string{"|a", "|b"}},
		"CRLF":                   {"data: a\r\n\r\ndata: b\r\n\r\n", []string{"|a", "|b"}},
		"CR":                     {"data: a\r\rdata: b\r\r", []string{"|a", "|b"}},
		"MixedLineEnds":          {"data: a\r\ndata: b\r\rdata: c\n\r\n", []string{"|a\nb", "|c"}},
		"NoSpace":                {"event:x\ndata:a\n\n", []string{"x|a"}},
		"OneSpaceIsDropped":      {"data:  a\n\n", []string{"| a"}},
		"TabIsKept":              {"data:\ta\n\n", []string{"|\ta"}},
		"NoColon":                {"data\n\n", []string{"|"}},
		"SeveralLines":           {"data: a\ndata\ndata:\ndata: b\n\n", []string{"|a\n\n\nb"}},
		"Comments":               {": hello\n:\n\ndata: a\n: in between\n\n", []string{"|a"}},
		"CommentsFirst":          {":\r\n\r\n: x\r\n\r\ndata: a\r\n\r\n", []string{"|a"}},
		"ByteOrderMark":          {"\xef\xbb\xbfdata: a\n\n", []string{"|a"}},
		"ByteOrderMarkAndCRLF":   {"\xef\xbb\xbf\r\ndata: a\r\n\r\n", []string{"|a"}},
		"OnlyTheFirstMark":       {"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", []string{"|b"}},
		"MarkInTheMiddle":        {"data: a\n\n\xef\xbb\xbfdata: b\n\n", []string{"|a"}},
		"NameWithoutData":        {"event: x\n\ndata: a\n\n", []string{"|a"}},
		"LastNameCounts":         {"event: x\nevent: y\ndata: a\n\n", []string{"y|a"}},
		"NameIsForOneEvent":      {"event: x\ndata: a\n\ndata: b\n\n", []string{"x|a", "|b"}},
		"OtherFields":            {"id: 1\nretry: 5\nfoo: bar\ndata: a\n\n", []string{"|a"}},
		"FieldNamesAreExact":     {"Data: a\n data: b\ndata : c\n\ndata: d\n\n", []string{"|d"}},
		"ColonInTheData":         {"data: a: b\n\n", []string{"|a: b"}},
		"NoBlankLineAtTheEnd":    {"data: a\n\ndata: b\n", []string{"|a", "|b|unterminated"}},
		"NoLineEndAtTheEnd":      {"data: a\n\nevent: x\ndata: b", []string{"|a", "x|b|unterminated"}},
		"CRAtTheEnd":             {"data: a\r", []string{"|a|unterminated"}},
		"NoDataAtTheEnd":         {"data: a\n\nevent: x", []string{"|a"}},
		"Empty":                  {"", []string{}},
		"OnlyAMark":              {"\xef\xbb\xbf", []string{}},
		"PartOfAMark":            {"\xef\xbb", []string{}},
		"BytesThatAreNoText":     {"data: \xf0\x9f\n\n", []string{"|\xf0\x9f"}},
		"JSONDocument":           {"{\n\"a\": 1\r\n\n}", []string{"|{\n\"a\": 1\r\n\n}"}},
		"JSONDocumentWithMark":   {"\xef\xbb\xbf{}", []string{"|{}"}},
		"BlanksBeforeADocument":  {"\r\n  \n\t{}", []string{"|{}"}},
		"BlanksBeforeEvents":     {"\r\n\n \ndata: a\n\n", []string{"|a"}},
		"SpaceBeforeAField":      {" data: a\n\ndata: b\n\n", []string{"|b"}},
		"OnlyBlanks":             {" \r\n \t", []string{}},
		"BraceInTheMiddleIsLine": {"data: a\n\n{\"data\": 1}\n\n", []string{"|a"}},
	} {
		t.Run(name, func(t *testing.T) {
			for reader, body := range map[string]io.Reader{
				"whole":       strings.NewReader(c.body),
				"byte-wise":   iotest.OneByteReader(strings.NewReader(c.body)),
				"end-in-read": iotest.DataErrReader(strings.NewReader(c.body)),
			} {
				got, err := readEvents(body)
				if d := cmp.Diff(c.want, got); d != "" || err != nil {
					t.Errorf("%s: %v %s", reader, err, d)
				}
			}
		})
	}
}

// An event is returned as soon as its last line end is there, even if that is
// a CR whose LF may be still to come.
func TestEventReader_DoesNotWaitForMore(t *testing.T) {
	for _, end := range []string{"\n\n", "\r\n\r\n", "\r\r", "\r\n\r"} {
		body, w := io.Pipe()
		go w.Write([]byte("data: a" + end))
		r := NewEventReader(body, 1<<10, 1<<10)
		if !r.Next() || string(r.Event().Data) != "a" {
			t.Errorf("%q: no event, %v", end, r.Err())
		}
		_ = body.Close()
	}
}

func TestEventReader_Bounds(t *testing.T) {
	long := strings.Repeat("x", 2000)
	for name, body := range map[string]string{
		"Line":     "data: " + long,
		"Comment":  ": " + long + "\n\n",
		"Event":    strings.Repeat("data: "+long[:100]+"\n", 20),
		"Document": "{" + long + long,
	} {
		r := NewEventReader(strings.NewReader(body), 1000, 3000)
		for r.Next() {
			t.Errorf("%s: event of %d bytes", name, len(r.Event().Data))
		}
		if !errors.Is(r.Err(), errTooLong) {
			t.Errorf("%s: %v", name, r.Err())
		}
	}
	r := NewEventReader(strings.NewReader(strings.Repeat(": keep-alive\n", 1000)+"data: a\n\n"), 1000, 3000)
	if !r.Next() || string(r.Event().Data) != "a" {
		t.Errorf("many comments: %v", r.Err())
	}
}

// Of a line that comes byte by byte each byte is looked at once.
func TestEventReader_IsLinear(t *testing.T) {
	line := []byte("data: " + strings.Repeat("x", 1<<20-6))
	r := NewEventReader(strings.NewReader(""), 1<<20, 1<<20)
	r.started = true
	looked := 0
	for n := 1; n <= len(line); n++ {
		looked += n - r.scanned
		if advance, token, err := r.split(line[:n], false); advance != 0 || token != nil || err != nil {
			t.Fatal(advance, token, err)
		}
	}
	if looked != len(line) {
		t.Errorf("looked at %d bytes of %d", looked, len(line))
	}
	whole := NewEventReader(iotest.OneByteReader(strings.NewReader(string(line)+"\n\n")), 1<<20, 1<<20)
	if !whole.Next() || len(whole.Event().Data) != len(line)-6 {
		t.Error(whole.Err())
	}
}

func TestEventReader_BrokenBody(t *testing.T) {
	torn := errors.New("torn")
	got, err := readEvents(io.MultiReader(strings.NewReader("data: a\n\ndata: b"), iotest.ErrReader(torn)))
	if d := cmp.Diff([]string{"|a", "|b|unterminated"}, got); d != "" || !errors.Is(err, torn) {
		t.Error(err, d)
	}
}

// cutReader returns data in reads of the given lengths.
type cutReader struct {
	data []byte
	cuts []byte
}

func (c *cutReader) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := len(c.data)
	if len(c.cuts) > 0 {
		n, c.cuts = int(c.cuts[0]), c.cuts[1:]
	}
	n = min(max(n, 1), len(c.data), len(p))
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

// However a body is cut into reads, the same events come out.
func TestEventReader_CutsDoNotMatter(t *testing.T) {
	part := rapid.SampledFrom([]string{"data", "event", "id", ":", ": ", " ", "a", "{", "}", "\r", "\n", "\r\n", "\n\n", "\r\n\r\n", "\r\r",
		"\xef\xbb\xbf", "\xef", "é", "😀", "\xf0\x9f", "data: x\n\n", "event: y\r\n"})
	rapid.Check(t, func(rt *rapid.T) {
		body := strings.Join(rapid.SliceOf(part).Draw(rt, "body"), "")
		cuts := rapid.SliceOf(rapid.ByteRange(1, 7)).Draw(rt, "cuts")
		want, wantErr := readEvents(strings.NewReader(body))
		got, err := readEvents(&cutReader{data: []byte(body), cuts: cuts})
		if d := cmp.Diff(want, got); d != "" || (err == nil) != (wantErr == nil) {
			rt.Fatalf("%q cut at %v: %v %s", body, cuts, err, d)
		}
		byteWise, _ := readEvents(iotest.OneByteReader(strings.NewReader(body)))
		if d := cmp.Diff(want, byteWise); d != "" {
			rt.Fatalf("%q byte by byte: %s", body, d)
		}
	})
}

// FuzzEventReader cuts any bytes anywhere, and compares the events with those
// of a simple second implementation of the grammar.
func FuzzEventReader(f *testing.F) {
	f.Add([]byte("data: a\n\ndata: b\n\n"), []byte{1, 2, 3})
	f.Add([]byte("\xef\xbb\xbfevent:x\r\ndata:a\r\rdata\r\n: c\n\n\ndata: z"), []byte{1, 1, 1, 1})
	f.Add([]byte("{\"choices\":[]}"), []byte{5})
	f.Fuzz(func(t *testing.T, body, cuts []byte) {
		if len(body) > 1<<15 {
			return // beyond the limit of an event
		}
		got, err := readEvents(&cutReader{data: bytes.Clone(body), cuts: cuts})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(eventsByTheBook(string(body)), got); d != "" {
			t.Errorf("%q cut at %v: %s", body, cuts, d)
		}
	})
}

// eventsByTheBook is the grammar of the standard on a whole string, with the
// two differences that EventReader documents.
func eventsByTheBook(body string) []string {
	list := []string{}
	body = strings.TrimPrefix(body, "\xef\xbb\xbf")
	if text := strings.TrimLeft(body, " \t\r\n"); strings.HasPrefix(text, "{") {
		return []string{"|" + text}
	}
	body = strings.ReplaceAll(strings.ReplaceAll(body, "\r\n", "\n"), "\r", "\n")
	name, data, hasData := "", "", false
	for body != "" {
		line, rest, _ := strings.Cut(body, "\n")
		body = rest
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			if hasData {
				list = append(list, name+"|"+strings.TrimSuffix(data, "\n"))
			}
			name, data, hasData = "", "", false
		case field == "event":
			name = value
		case field == "data":
			data, hasData = data+value+"\n", true
		}
	}
	if hasData {
		list = append(list, name+"|"+strings.TrimSuffix(data, "\n")+"|unterminated")
	}
	return list
}
