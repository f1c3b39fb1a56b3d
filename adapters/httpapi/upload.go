package httpapi

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"strings"

	"parley/domain/fault"
)

// MediaAny is the Media of a route whose answers have a type of their own each.
const MediaAny = "*/*"

// FileBody is the body of a request that uploads a file: the file itself, or a
// form with one file. It is a field with the tag file, and is read by the
// operation, not before it.
type FileBody struct {
	Name      string // "" if the request does not say
	MediaType string
	Size      int64 // bytes; -1 if the request does not say
	Content   io.Reader
}

// bindFile finds the file of a request's body. Nothing of it is decompressed.
func bindFile(r *http.Request) (FileBody, error) {
	if r.Header.Get("Content-Encoding") != "" {
		return FileBody{}, fault.New(fault.MediaType, "A compressed request body is not accepted")
	}
	if r.Body == nil || r.Body == http.NoBody {
		return FileBody{Content: strings.NewReader("")}, nil
	}
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err == nil && strings.HasPrefix(kind, "multipart/") {
		return bindForm(r, kind, params["boundary"])
	}
	if r.ContentLength == 0 {
		return FileBody{Content: strings.NewReader("")}, nil
	}
	return FileBody{Name: fileNameOf(r.Header.Get("Content-Disposition")), MediaType: kind, Size: r.ContentLength, Content: requestReader{r}}, nil
}

// fileNameOf is the name in a Content-Disposition; "" if there is none.
func fileNameOf(disposition string) string {
	_, params, err := mime.ParseMediaType(disposition)
	if err != nil {
		return ""
	}
	return params["filename"]
}

// bindForm finds the only file of a form.
func bindForm(r *http.Request, kind, boundary string) (FileBody, error) {
	if kind != "multipart/form-data" || boundary == "" {
		return FileBody{}, fault.New(fault.MediaType, "A form must be multipart/form-data with a boundary")
	}
	if b, ok := r.Body.(*boundedBody); ok && r.ContentLength > b.max {
		return FileBody{}, tooLarge(b.max)
	}
	form := multipart.NewReader(requestReader{r}, boundary)
	part, err := form.NextRawPart()
	if err != nil {
		return FileBody{}, malformedForm(err)
	}
	name := fileNameOf(part.Header.Get("Content-Disposition"))
	if name == "" {
		return FileBody{}, errOneFile()
	}
	switch strings.ToLower(part.Header.Get("Content-Transfer-Encoding")) {
	case "", "binary", "7bit", "8bit":
	default:
		return FileBody{}, fault.New(fault.MediaType, "An encoded file is not accepted")
	}
	if part.Header.Get("Content-Encoding") != "" {
		return FileBody{}, fault.New(fault.MediaType, "A compressed file is not accepted")
	}
	return FileBody{Name: name, MediaType: part.Header.Get("Content-Type"), Size: -1, Content: &formFile{form: form, part: part}}, nil
}

func errOneFile() error {
	return fault.New(fault.Invalid, "The form must have exactly one file, and no other field")
}

func malformedForm(err error) error {
	if fault.As(err) != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return fault.New(fault.Invalid, "The form is malformed or incomplete")
}

// formFile reads the file of a form. At its end it makes sure that the form has
// ended too, so that a form with two files, or half of one, is not accepted.
type formFile struct {
	form *multipart.Reader
	part *multipart.Part
	end  error // once it has been reached
}

// Read implements io.Reader.
func (f *formFile) Read(p []byte) (int, error) {
	if f.end != nil {
		return 0, f.end
	}
	n, err := f.part.Read(p)
	switch {
	case err == nil || n > 0:
		return n, nil // an error comes again
	case err != io.EOF: //nolint:errorlint // one that wraps EOF is not the end
		f.end = malformedForm(err)
		return 0, f.end
	}
	switch _, err := f.form.NextRawPart(); {
	case err == nil:
		f.end = errOneFile()
	case err == io.EOF: // as above
		f.end = io.EOF
	default:
		f.end = malformedForm(err)
	}
	return 0, f.end
}

// requestReader reads a request's body, with faults for errors.
type requestReader struct{ request *http.Request }

// Read implements io.Reader.
func (b requestReader) Read(p []byte) (int, error) {
	n, err := b.request.Body.Read(p)
	if err == nil || err == io.EOF { // one that wraps EOF is not the end
		return n, err
	}
	return n, bodyError(b.request, err)
}
