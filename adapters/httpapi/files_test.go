package httpapi_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/adapters/blobs"
	"parley/app/files"
	"parley/domain/access"
)

const maxFile = 1 << 20

var fileTypes = []string{"image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf", "text/plain", "text/csv", "text/markdown", "application/json"}

const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR and so on"

// openFiles opens a directory of files that gives out URLs for uploads.
func (b *bench) openFiles(s settings) {
	b.t.Helper()
	b.dir = b.t.TempDir()
	secret := filepath.Join(b.t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef"), 0o600); err != nil {
		b.t.Fatal(err)
	}
	address := "file://" + b.dir + "?" + url.Values{"base_url": {"http://bucket.example.com/"}, "secret_key_path": {secret}}.Encode()
	bucket, err := blobs.Open(b.t.Context(), address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { bucket.Close() })
	b.files = &files.Service{
		Files: b.store, Blobs: bucket, Detect: blobs.Detect, Observer: b, Now: time.Now,
		NewID:    func() string { return uuid.Must(uuid.NewV7()).String() },
		Quota:    func(access.Principal) int64 { return s.quota },
		MaxBytes: maxFile, Types: fileTypes,
	}
}

// stored counts rows and blobs of files, which have to be the same number.
func (b *bench) stored() int {
	b.t.Helper()
	var rows, blobs int
	if err := b.store.DB().QueryRow("SELECT count(*) FROM chat_files").Scan(&rows); err != nil {
		b.t.Fatal(err)
	}
	err := filepath.WalkDir(b.dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			blobs++
		}
		return err
	})
	if err != nil || rows != blobs {
		b.t.Errorf("%d rows, %d blobs, %v", rows, blobs, err)
	}
	return rows
}

// form is a form of files, by name.
func form(parts ...string) string {
	var out strings.Builder
	for i := 0; i+1 < len(parts); i += 2 {
		fmt.Fprintf(&out, "--b\r\nContent-Disposition: form-data; name=\"file\"; %s\r\n\r\n%s\r\n", parts[i], parts[i+1])
	}
	return out.String() + "--b--\r\n"
}

const formType = "multipart/form-data; boundary=b"

func TestFiles(t *testing.T) { onBoth(t, fileLife) }

func fileLife(t *testing.T, b *bench) {
	const path = "/api/chat/files"
	digest := sha256.Sum256([]byte(png))
	sum := hex.EncodeToString(digest[:])
	raw := b.do("ann", "POST", path+"?name=..%2Fcat.png", png, "Content-Type", "image/png").must(201)
	multi := b.do("ann", "POST", path, form(`filename="C:\\me\\cat.png"`, png), "Content-Type", formType).must(201)
	named := b.do("ann", "POST", path, png, "Content-Type", "application/octet-stream", "Content-Disposition", `attachment; filename*=UTF-8''K%C3%A4tzchen.png`).must(201)
	for _, a := range []answer{raw, multi, named} {
		if a.text("mediaType") != "image/png" || a.get("size") != float64(len(png)) || a.text("sha256") != sum || a.text("url") != path+"/"+a.text("id") {
			t.Error(a.raw)
		}
	}
	if raw.text("name") != "cat.png" || named.text("name") != "Kätzchen.png" || !strings.HasSuffix(multi.text("name"), "cat.png") {
		t.Errorf("%q %q %q", raw.text("name"), multi.text("name"), named.text("name"))
	}
	got := b.do("ann", "GET", named.text("url"), "").must(200)
	if got.raw != png {
		t.Errorf("%q", got.raw)
	}
	for name, want := range map[string]string{
		"Content-Type": "image/png", "X-Content-Type-Options": "nosniff", "ETag": `"` + sum + `"`, "Accept-Ranges": "bytes",
		"Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'", "Content-Disposition": "attachment; filename*=utf-8''K%C3%A4tzchen.png",
		"Cache-Control": "private, no-cache", "Content-Length": fmt.Sprint(len(png)),
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	for asked, want := range map[string]struct {
		status int
		body   string
		span   string
	}{
		"bytes=1-3": {206, "PNG", "bytes 1-3/%d"}, "bytes=0-0": {206, "\x89", "bytes 0-0/%d"}, "bytes=-2": {206, "on", fmt.Sprintf("bytes %d-%d/%%d", len(png)-2, len(png)-1)},
		"bytes=1-9999": {206, png[1:], fmt.Sprintf("bytes 1-%d/%%d", len(png)-1)}, "bytes=5-": {206, png[5:], fmt.Sprintf("bytes 5-%d/%%d", len(png)-1)},
		"bytes=9999-": {416, "", "bytes */%d"}, "bytes=-0": {416, "", "bytes */%d"}, "bytes=3-1": {200, png, ""}, "bytes=a-b": {200, png, ""},
		"bytes=0-1,3-4": {200, png, ""}, "lines=1-2": {200, png, ""}, "bytes=-": {200, png, ""}, "bytes=99999999999999999999-": {200, png, ""},
	} {
		a := b.do("ann", "GET", raw.text("url"), "", "Range", asked)
		span := want.span
		if span != "" {
			span = fmt.Sprintf(span, len(png))
		}
		if a.status != want.status || a.raw != want.body || a.header.Get("Content-Range") != span {
			t.Errorf("%s: %d %q %q", asked, a.status, a.raw, a.header.Get("Content-Range"))
		}
	}
	b.do("ann", "GET", raw.text("url"), "", "Range", "bytes=1-3", "If-Range", `"another"`).must(200)
	b.do("ann", "GET", raw.text("url"), "", "Range", "bytes=1-3", "If-Range", `"`+sum+`"`).must(206)
	b.do("ann", "GET", raw.text("url"), "", "If-None-Match", `"x", W/"`+sum+`"`).must(304)
	if list := b.do("ann", "GET", path+"?limit=2", "").must(200); len(list.get("files").([]any)) != 2 || list.get("hasMore") != true {
		t.Error(list.raw)
	} else if rest := b.do("ann", "GET", path+"?limit=2&before="+list.text("nextCursor"), "").must(200); len(rest.get("files").([]any)) != 1 {
		t.Error(rest.raw)
	}
	if exported := b.do("ann", "GET", "/api/chat/export", "").must(200).get("files").([]any); len(exported) != 3 || exported[2].(map[string]any)["id"] != raw.text("id") {
		t.Errorf("exported %v", exported)
	}
	if exported := b.do("bob", "GET", "/api/chat/export", "").must(200).get("files").([]any); len(exported) != 0 {
		t.Errorf("exported to another user: %v", exported)
	}
	missing := b.do("bob", "GET", path+"/unknown", "").refused(404, "NOT_FOUND", "")
	for _, method := range []string{"GET", "DELETE"} {
		if a := b.do("bob", method, raw.text("url"), "").must(404); a.text("detail") != missing.text("detail") {
			t.Error(a.raw)
		}
	}
	b.do("ann", "DELETE", raw.text("url"), "").must(200)
	b.do("ann", "DELETE", raw.text("url"), "").must(404)
	b.do("ann", "GET", raw.text("url"), "").must(404)
	if n := b.stored(); n != 2 {
		t.Errorf("%d files", n)
	}
	b.do("ann", "DELETE", "/api/chat/account", `{"confirm":true}`).must(200)
	if n := b.stored(); n != 0 {
		t.Errorf("%d files after the erasure", n)
	}
}

// Whatever is refused, nothing of it is kept, and chats go on.
func TestFiles_BadInput(t *testing.T) {
	onBoth(t, badFiles, func(s *settings) { s.quota = 3 * maxFile })
}

func badFiles(t *testing.T, b *bench) {
	const path = "/api/chat/files"
	long := strings.Repeat("x", maxFile+1)
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
		says    string
	}{
		"Empty":          {"", []string{"Content-Type", "image/png"}, 400, "The file is empty"},
		"EmptyInForm":    {form(`filename="a.png"`, ""), []string{"Content-Type", formType}, 400, "The file is empty"},
		"Zip":            {"PK\x03\x04", []string{"Content-Type", "image/png"}, 415, "Files of type application/zip are not accepted; allowed are " + strings.Join(fileTypes, ", ")},
		"HTML":           {"<!DOCTYPE html><script>alert(1)</script>", []string{"Content-Type", "text/html"}, 415, "Files of type text/html are not accepted"},
		"TooLarge":       {long, []string{"Content-Type", "text/plain"}, 413, "A file cannot exceed 1048576 bytes"},
		"TooLargeInForm": {form(`filename="a.txt"`, long), []string{"Content-Type", formType}, 413, "A file cannot exceed 1048576 bytes"},
		"FormTooLarge":   {form(`filename="a.txt"`, long+long), []string{"Content-Type", formType}, 413, "Request body cannot exceed"},
		"Compressed":     {png, []string{"Content-Type", "image/png", "Content-Encoding", "gzip"}, 415, "A compressed request body is not accepted"},
		"CompressedPart": {form("filename=\"a.png\"\r\nContent-Encoding: gzip", png), []string{"Content-Type", formType}, 415, "A compressed file is not accepted"},
		"EncodedPart":    {form("filename=\"a.png\"\r\nContent-Transfer-Encoding: base64", png), []string{"Content-Type", formType}, 415, "An encoded file is not accepted"},
		"TwoFiles":       {form(`filename="a.png"`, png, `filename="b.png"`, png), []string{"Content-Type", formType}, 400, "exactly one file"},
		"NoFile":         {form(`x="y"`, "value"), []string{"Content-Type", formType}, 400, "exactly one file"},
		"EmptyForm":      {"--b--\r\n", []string{"Content-Type", formType}, 400, "malformed or incomplete"},
		"CutForm":        {form(`filename="a.png"`, png)[:80], []string{"Content-Type", formType}, 400, "malformed or incomplete"},
		"CutLongForm":    {form(`filename="a.txt"`, strings.Repeat("x", 100_000))[:90_000], []string{"Content-Type", formType}, 400, "malformed or incomplete"},
		"NoBoundary":     {form(`filename="a.png"`, png), []string{"Content-Type", "multipart/form-data"}, 415, "boundary"},
		"OtherForm":      {form(`filename="a.png"`, png), []string{"Content-Type", "multipart/mixed; boundary=b"}, 415, "multipart/form-data"},
	} {
		a := b.do("ann", "POST", path, c.body, c.headers...)
		if a.status != c.status || !strings.Contains(a.text("detail"), c.says) {
			t.Errorf("%s: %d %s, want %d %s", name, a.status, a.raw, c.status, c.says)
		}
	}
	b.do("ann", "POST", path+"?id=a%20b", png).must(400)
	if n := b.stored(); n != 0 {
		t.Errorf("%d files are kept", n)
	}
	for i := range 3 {
		b.do("ann", "POST", path, strings.Repeat("x", maxFile-10*i)).must(201)
	}
	over := b.do("ann", "POST", path, strings.Repeat("x", 31)).refused(429, "BUDGET_EXCEEDED", "Your storage for files does not cover this file: 30 of 3145728 bytes are left")
	if over.get("remaining") != float64(30) || over.header.Get("Retry-After") == "" {
		t.Error(over.raw)
	}
	b.do("bob", "POST", path+"?id=mine", "Hello").must(201)
	b.do("bob", "POST", path+"?id=mine", "Other").refused(409, "CONFLICT", "A file with this ID exists already")
	if n := b.stored(); n != 4 {
		t.Errorf("%d files", n)
	}
	if err := os.RemoveAll(b.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.dir, nil, 0o600); err != nil { // the store of files is away
		t.Fatal(err)
	}
	b.do("bob", "POST", path, "Hello").refused(503, "UNAVAILABLE", "The store of files is not available at the moment")
	b.do("bob", "POST", "/api/chat/messages", `{"content":"Hello"}`).must(201)
	b.alive()
}

// The length of a request says that it is too large before its body is sent.
func TestFiles_TooLargeIsRefusedUnread(t *testing.T) { onBoth(t, tooLargeFile) }

func tooLargeFile(t *testing.T, b *bench) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST /api/chat/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", token(t, "ann"), int64(1)<<40)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Error(res.Status)
	}
}

// A client that leaves in the middle of an upload leaves nothing.
func TestFiles_ClientLeaves(t *testing.T) {
	onBoth(t, func(t *testing.T, b *bench) {
		ctx, cancel := context.WithCancel(t.Context())
		reader, writer := io.Pipe()
		go func() {
			_, _ = writer.Write([]byte(strings.Repeat("x", 300_000)))
			for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
				var n int
				if b.store.DB().QueryRow("SELECT count(*) FROM chat_files").Scan(&n) == nil && n == 1 {
					break
				}
			}
			cancel()
			writer.Close()
		}()
		req := b.request("ann", "POST", "/api/chat/files", "").WithContext(ctx)
		req.Body, req.ContentLength = io.NopCloser(reader), 500_000
		if res, err := b.server.Client().Do(req); err == nil {
			res.Body.Close()
			t.Fatal(res.Status)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			var n int
			if err := b.store.DB().QueryRow("SELECT count(*) FROM chat_files").Scan(&n); err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the upload is still there")
			}
		}
		b.stored()
	})
}

// An upload of 100 MB needs no more memory than a small one.
func TestFiles_StreamedInLittleMemory(t *testing.T) {
	const size = 100 << 20
	b := setup(t)
	b.files.MaxBytes = size
	var peak, base uint64
	sample := func() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		peak = max(peak, m.Sys-m.HeapReleased)
		if base == 0 {
			base = peak
		}
	}
	runtime.GC()
	content := readerFunc(func() func([]byte) (int, error) {
		sent, sampled := 0, 0
		return func(p []byte) (int, error) {
			if sent == size {
				return 0, io.EOF
			}
			n := min(len(p), size-sent)
			for i := range p[:n] {
				p[i] = 'x'
			}
			if sent += n; sent-sampled > 4<<20 {
				sampled = sent
				sample()
			}
			return n, nil
		}
	}())
	sample()
	f, err := b.files.Upload(t.Context(), files.Upload{Principal: access.Principal{UserID: "ann"}, Name: "a.txt", Size: size, Content: content})
	if err != nil || f.Size != size {
		t.Fatal(f, err)
	}
	if more := int64(peak - base); more > 16<<20 {
		t.Errorf("the upload took %d MiB of memory", more>>20)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
