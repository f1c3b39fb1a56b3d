package rest

import (
	"context"
	"io"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"parley/adapters/httpapi"
	"parley/app/files"
	"parley/domain/chat"
	"parley/ports"
)

const filesPath = "/api/chat/files"

// fileRoutes returns the endpoints of files.
func (s Services) fileRoutes() []httpapi.Endpoint {
	type route = httpapi.Route
	created := httpapi.JSONEncoder(http.StatusCreated, fileOf)
	const file = filesPath + "/{id}"
	return []httpapi.Endpoint{
		httpapi.Handle(route{Method: "POST", Path: filesPath, Access: httpapi.Writes, MaxFile: s.Files.MaxBytes, Summary: "Upload a file"}, decodeUpload, s.Files.Upload, created),
		httpapi.Handle(route{Method: "GET", Path: filesPath, Access: httpapi.Reads, Summary: "List files"}, decodeList, s.listFiles, httpapi.JSONEncoder(http.StatusOK, filesOf)),
		httpapi.Handle(route{Method: "GET", Path: file, Access: httpapi.Reads, Media: httpapi.MediaAny, Summary: "Read a file"}, decodeDownload, s.download, fileEncoder(s.Files.Types)),
		httpapi.Handle(route{Method: "DELETE", Path: file, Access: httpapi.Writes, Summary: "Delete a file"}, decodeFile, s.removeFile, httpapi.JSONEncoder(http.StatusOK, successOf)),
		httpapi.Handle(route{Method: "POST", Path: filesPath + "/direct", Access: httpapi.Writes, Refuses: []int{http.StatusConflict}, Summary: "Begin an upload that goes to the bucket"}, decodeDirect, s.Files.BeginDirect, httpapi.JSONEncoder(http.StatusCreated, directOf)),
		httpapi.Handle(route{Method: "POST", Path: file + "/complete", Access: httpapi.Writes, Refuses: []int{http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}, Summary: "End an upload that went to the bucket"}, decodeFile, s.completeFile, httpapi.JSONEncoder(http.StatusOK, fileOf)),
	}
}

type fileJSON struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	MediaType string `json:"mediaType"`
	Size      int64  `json:"size"`
	Digest    string `json:"sha256"`
	URL       string `json:"url"` // relative to the API
	CreatedAt string `json:"createdAt" schema:"format=date-time"`
}

func fileOf(f chat.File) fileJSON {
	return fileJSON{
		ID: f.ID, Name: f.Name, MediaType: f.MediaType, Size: f.Size, Digest: f.Digest, URL: filesPath + "/" + f.ID, CreatedAt: httpapi.Timestamp(f.CreatedAt),
	}
}

type uploadWire struct {
	ID   string           `query:"id" ref:"new file"`
	Name string           `query:"name"`
	File httpapi.FileBody `file:"file"`
}

func decodeUpload(c httpapi.Call, in uploadWire) (files.Upload, error) {
	name := in.Name
	if name == "" {
		name = in.File.Name
	}
	return files.Upload{
		Principal: c.Principal, Caller: c.Caller, ID: in.ID, Name: name, MediaType: in.File.MediaType, Size: in.File.Size, Content: in.File.Content,
	}, nil
}

type fileWire struct {
	ID string `path:"id" ref:"file"`
}

func decodeFile(c httpapi.Call, in fileWire) (resourceCall, error) {
	return resourceCall{c, in.ID}, nil
}

func (s Services) removeFile(ctx context.Context, in resourceCall) (httpapi.NoInput, error) {
	return httpapi.NoInput{}, s.Files.Delete(ctx, in.Principal, in.Caller, in.id)
}

func (s Services) completeFile(ctx context.Context, in resourceCall) (chat.File, error) {
	return s.Files.CompleteDirect(ctx, in.Principal, in.Caller, in.id)
}

type filesJSON struct {
	Files      []fileJSON `json:"files"`
	HasMore    bool       `json:"hasMore"`
	NextCursor *string    `json:"nextCursor"` // for before
}

type fileList struct {
	list []chat.File
	more bool
}

func (s Services) listFiles(ctx context.Context, in listCall) (out fileList, err error) {
	out.list, out.more, err = s.Files.List(ctx, in.Principal, in.page)
	return out, err
}

func filesOf(l fileList) filesJSON {
	out := filesJSON{Files: make([]fileJSON, len(l.list)), HasMore: l.more}
	for i, f := range l.list {
		out.Files[i] = fileOf(f)
	}
	if l.more {
		last := l.list[len(l.list)-1]
		out.NextCursor = httpapi.Optional(formatPosition(ports.Position{At: last.CreatedAt, ID: last.ID}))
	}
	return out
}

type directWire struct {
	ID        string `json:"id" ref:"new file"`
	Name      string `json:"name" schema:"maxLength=1000"`
	MediaType string `json:"mediaType" schema:"maxLength=200"`
	Size      *int   `json:"size" schema:"required,minimum=1" errmsg:"size must be a number of bytes"`
}

func decodeDirect(c httpapi.Call, in directWire) (files.Upload, error) {
	size := int64(-1)
	if in.Size != nil {
		size = int64(*in.Size)
	}
	return files.Upload{Principal: c.Principal, Caller: c.Caller, ID: in.ID, Name: in.Name, MediaType: in.MediaType, Size: size}, nil
}

// directJSON says where to send a file to: with one PUT request to uploadUrl,
// before it expires.
type directJSON struct {
	ID        string `json:"id"`
	UploadURL string `json:"uploadUrl"`
	ExpiresAt string `json:"expiresAt" schema:"format=date-time"`
}

func directOf(d files.Direct) directJSON {
	return directJSON{ID: d.File.ID, UploadURL: d.URL, ExpiresAt: httpapi.Timestamp(d.Expires)}
}

type downloadWire struct {
	ID      string `path:"id" ref:"file"`
	Range   string `header:"Range"`
	IfRange string `header:"If-Range"`
	httpapi.Revalidation
}

type downloadCall struct {
	httpapi.Call
	downloadWire
}

func decodeDownload(c httpapi.Call, in downloadWire) (downloadCall, error) {
	return downloadCall{c, in}, nil
}

// download is an answer with a file, or a part of it.
type download struct {
	file           chat.File
	status         int
	offset, length int64
	content        io.ReadCloser // nil: nothing of it is sent
}

func (s Services) download(ctx context.Context, in downloadCall) (download, error) {
	f, err := s.Files.Get(ctx, in.Principal, in.ID)
	if err != nil {
		return download{}, err
	}
	d := download{file: f, status: http.StatusOK, length: f.Size}
	if httpapi.Matches(in.IfNoneMatch, etag(f)) {
		d.status = http.StatusNotModified
		return d, nil
	}
	if in.IfRange == "" || in.IfRange == etag(f) {
		d.status, d.offset, d.length = parseRange(in.Range, f.Size)
	}
	if d.status != http.StatusRequestedRangeNotSatisfiable {
		d.content, err = s.Files.Open(ctx, f, d.offset, d.length)
	}
	return d, err
}

// etag names a file's content.
func etag(f chat.File) string { return `"` + f.Digest + `"` }

// parseRange returns which part of a file a Range header asks for. Several ranges,
// other units and what is malformed are answered with the whole file.
func parseRange(header string, size int64) (status int, offset, length int64) {
	first, last, ok := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	from, fromErr := strconv.ParseUint(first, 10, 62)
	to, toErr := strconv.ParseUint(last, 10, 62)
	switch {
	case !ok || !strings.HasPrefix(header, "bytes=") || fromErr != nil && first != "" || toErr != nil && last != "":
	case first == "" && last == "":
	case first == "": // the last bytes
		if to == 0 {
			return http.StatusRequestedRangeNotSatisfiable, 0, 0
		}
		length = min(int64(to), size)
		return http.StatusPartialContent, size - length, length
	case last != "" && to < from:
	case int64(from) >= size:
		return http.StatusRequestedRangeNotSatisfiable, 0, 0
	default:
		end := size
		if last != "" {
			end = min(int64(to)+1, size)
		}
		return http.StatusPartialContent, int64(from), end - int64(from)
	}
	return http.StatusOK, 0, size
}

// fileEncoder writes files, of these types and of those that were accepted before.
func fileEncoder(types []string) httpapi.Encoder[download] {
	answers := []httpapi.Answer{{Status: http.StatusNotModified}, {Status: http.StatusRequestedRangeNotSatisfiable}}
	for _, media := range types {
		content := reflect.TypeFor[string]()
		for _, status := range []int{http.StatusOK, http.StatusPartialContent} {
			answers = append(answers, httpapi.Answer{Status: status, Media: media, Types: []reflect.Type{content}})
		}
	}
	return httpapi.Encoder[download]{Answers: answers, Encode: encodeDownload}
}

// encodeDownload writes a file so that a browser shows nothing of it as a page:
// it is an attachment of exactly this type, and is sandboxed if it is opened.
func encodeDownload(_ context.Context, w *httpapi.Response, d download) error {
	h := w.Header()
	h.Set("ETag", etag(d.file))
	h.Set("Cache-Control", "private, no-cache")
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-site")
	if d.status == http.StatusPartialContent {
		h.Set("Content-Range", "bytes "+strconv.FormatInt(d.offset, 10)+"-"+strconv.FormatInt(d.offset+d.length-1, 10)+"/"+strconv.FormatInt(d.file.Size, 10))
	}
	if d.status == http.StatusRequestedRangeNotSatisfiable {
		h.Set("Content-Range", "bytes */"+strconv.FormatInt(d.file.Size, 10))
	}
	if d.content == nil {
		w.WriteHeader(d.status)
		return nil
	}
	defer d.content.Close()
	media := d.file.MediaType
	if strings.HasPrefix(media, "text/") {
		media += "; charset=utf-8"
	}
	h.Set("Content-Type", media)
	h.Set("Content-Disposition", mime.FormatMediaType("attachment", map[string]string{"filename": d.file.Name}))
	h.Set("Content-Length", strconv.FormatInt(d.length, 10))
	w.WriteHeader(d.status)
	// With less than the announced length the server cuts the connection, so that a
	// part is not taken for the whole.
	_, _ = io.Copy(writerOnly{w}, d.content)
	return nil
}

// writerOnly hides other methods of a writer, so that each write has its deadline.
type writerOnly struct{ io.Writer }
