package upstream

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"

	"parley/domain/chat"
)

// FileKind is how a file is given to a model.
type FileKind int

// Kinds of files, by their media type.
const (
	OtherFile FileKind = iota // no model can read it
	TextFile                  // as text
	ImageFile
	PDFFile
)

// FileKindOf returns the kind of a media type without parameters.
func FileKindOf(mediaType string) FileKind {
	switch mediaType {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return ImageFile
	case "application/pdf":
		return PDFFile
	case "application/json":
		return TextFile
	}
	if strings.HasPrefix(mediaType, "text/") {
		return TextFile
	}
	return OtherFile
}

// FileNote is text in the place of a file that a model does not get; why ends the
// sentence that begins with the file's name.
func FileNote(file chat.Part, why string) chat.Part {
	return chat.Part{Kind: chat.TextPart, Text: "[file " + plainName(file.Name) + " " + why + "]"}
}

// NotReadable ends the note for a file of a kind that a model cannot read.
const NotReadable = "cannot be read by this model"

// plainName is a file's name within a note or a tag.
func plainName(name string) string {
	name = strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`[]<>"&`, r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, ""))
	if name == "" {
		return "without a name"
	}
	return name
}

// DataURL returns the content of a file as a data: URL.
func (b Block) DataURL() string {
	return "data:" + b.File.MediaType + ";base64," + b.Base64()
}

// Base64 returns the content of a file in base64.
func (b Block) Base64() string { return base64.StdEncoding.EncodeToString(b.Data) }

// FileText returns the content of a text file, which is UTF-8, or UTF-16 if it
// begins with a byte order mark of that. Control characters are left out: some
// providers refuse a request for them.
func (b Block) FileText() string {
	text := string(b.Data)
	switch {
	case strings.HasPrefix(text, "\xff\xfe"):
		text = fromUTF16(b.Data[2:], binary.LittleEndian)
	case strings.HasPrefix(text, "\xfe\xff"):
		text = fromUTF16(b.Data[2:], binary.BigEndian)
	}
	text, _ = chat.CleanOutput(strings.TrimPrefix(text, "\ufeff"))
	return text
}

func fromUTF16(data []byte, order binary.ByteOrder) string {
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = order.Uint16(data[2*i:])
	}
	return string(utf16.Decode(units))
}

// FileName returns the name of a file; "file" if it has none.
func (b Block) FileName() string {
	if b.File.Name == "" {
		return "file"
	}
	return b.File.Name
}

// Inline returns a text file as text between two tags that name it. The tag does
// not occur in the content.
func (b Block) Inline() string {
	text, tag := b.FileText(), "file"
	for n := 2; strings.Contains(text, "</"+tag+">"); n++ {
		tag = fmt.Sprintf("file-%d", n)
	}
	end := "\n"
	if strings.HasSuffix(text, "\n") {
		end = ""
	}
	return fmt.Sprintf("<%s name=%q type=%q>\n%s%s</%s>", tag, plainName(b.File.Name), b.File.MediaType, text, end, tag)
}
