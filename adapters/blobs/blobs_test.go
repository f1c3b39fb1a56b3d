package blobs_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob/fileblob"

	"parley/adapters/blobs"
	"parley/domain/fault"
	"parley/ports"
	"parley/ports/portstest"
)

func open(t testing.TB, url string) *blobs.Bucket {
	t.Helper()
	b, err := blobs.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestDirectory(t *testing.T) {
	portstest.Blobs(t, func(t testing.TB) ports.Blobs { return open(t, "file://"+t.TempDir()) })
}

func TestMemory(t *testing.T) {
	portstest.Blobs(t, func(t testing.TB) ports.Blobs { return open(t, "mem://") })
}

// The directory is made for its owner alone, and an upload that fails leaves no
// temporary file.
func TestDirectory_IsPrivateAndClean(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "files")
	b := open(t, "file://"+dir)
	if _, err := b.Put(t.Context(), "ab/1", "", strings.NewReader("x"), 10); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "ab/2", "", strings.NewReader("too long"), 3); !fault.Is(err, fault.TooLarge) {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "ab"): 0o700} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "ab"))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context()); err == nil {
		t.Error("a directory that is gone can be used")
	}
}

// A directory that cannot be created does not keep anything else from starting,
// and is used as soon as it can be.
func TestDirectory_CreatedLater(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "parent")
	if err := os.WriteFile(parent, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := open(t, "file://"+parent+"/files")
	if _, err := b.Put(t.Context(), "ab/1", "", strings.NewReader("x"), 10); !fault.Is(err, fault.Unavailable) || b.Check(t.Context()) == nil {
		t.Errorf("put: %v, check: %v", err, b.Check(t.Context()))
	}
	if err := os.Remove(parent); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "ab/1", "", strings.NewReader("x"), 10); err != nil || b.Check(t.Context()) != nil {
		t.Errorf("put: %v, check: %v", err, b.Check(t.Context()))
	}
}

// A directory gives out URLs for uploads when it is told how to sign them.
func TestDirectory_SignUpload(t *testing.T) {
	dir, secret := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := open(t, "file://"+dir)
	if _, ok, err := plain.SignUpload(t.Context(), "ab/1", time.Minute); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	var signer fileblob.URLSigner
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, err := signer.KeyFromURL(r.Context(), r.URL)
		if err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		if _, err := plain.Put(r.Context(), key, "", r.Body, 100); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	defer server.Close()
	base, _ := url.Parse(server.URL)
	signer = fileblob.NewURLSignerHMAC(base, []byte("0123456789abcdef"))
	b := open(t, "file://"+dir+"?"+url.Values{"base_url": {server.URL}, "secret_key_path": {secret}}.Encode())
	signed, ok, err := b.SignUpload(t.Context(), "ab/1", time.Minute)
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	for address, want := range map[string]int{signed: 200, strings.Replace(signed, "ab", "cd", 1): 403} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, address, strings.NewReader("direct"))
		res, err := server.Client().Do(req)
		if err != nil || res.StatusCode != want {
			t.Errorf("%s: %v, %v", address, res, err)
		}
		res.Body.Close()
	}
	r, err := b.Open(t.Context(), "ab/1", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if content, err := io.ReadAll(r); string(content) != "direct" || err != nil {
		t.Errorf("%q, %v", content, err)
	}
}

// Addresses are not repeated in errors that the parser of URLs makes.
func TestOpen_Refused(t *testing.T) {
	for _, address := range []string{"ftp://x", "", "file://\x00secret", "://secret"} {
		_, err := blobs.Open(t.Context(), address)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestDetect(t *testing.T) {
	png := "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
	for content, want := range map[string]string{
		png: "image/png", "\xff\xd8\xff\xe0\x00\x10JFIF": "image/jpeg", "GIF89a\x01\x00": "image/gif", "RIFF\x10\x00\x00\x00WEBPVP8 ": "image/webp",
		"%PDF-1.7\n": "application/pdf", `{"a":1}`: "application/json", "a,b\n1,2\n": "text/csv", "hello": "text/plain",
		"<!DOCTYPE html><html></html>": "text/html", `<svg xmlns="http://www.w3.org/2000/svg"/>`: "image/svg+xml", "PK\x03\x04": "application/zip",
		"\x7fELF\x02\x01": "application/x-elf", "\x00\x01\x02": "application/octet-stream",
		png + "%PDF-1.7": "application/octet-stream", "<script>x</script>%PDF-1.7": "application/octet-stream",
	} {
		if got := blobs.Detect([]byte(content)); got[0] != want {
			t.Errorf("%.20q is %v, want %s", content, got, want)
		}
	}
	if got := blobs.Detect([]byte("<html></html>")); len(got) < 2 || got[1] != "text/plain" {
		t.Errorf("%v: what is text is not said", got)
	}
}
