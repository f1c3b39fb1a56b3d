//go:build !noclouds

package blobs_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/adapters/blobs"
	_ "parley/adapters/blobs/clouds"
	"parley/domain/fault"
)

// Every scheme of the documentation has its driver, and opens without a connection.
func TestOpen_Clouds(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	t.Setenv("AZURE_STORAGE_ACCOUNT", "x")
	t.Setenv("AZURE_STORAGE_KEY", "eA==")
	for _, address := range []string{"s3://bucket?region=eu-central-1", "gs://bucket?access_id=-&anonymous=true", "azblob://container"} {
		b, err := blobs.Open(t.Context(), address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		b.Close()
	}
}

// A bucket that is away is Unavailable, soon and for every call.
func TestBucket_Away(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	server := httptest.NewServer(nil)
	server.Close() // refuses connections
	b := open(t, "s3://bucket?region=eu-central-1&use_path_style=true&endpoint="+url.QueryEscape(server.URL))
	var calls sync.WaitGroup // each waits for the driver's own repeats
	for what, call := range map[string]func() error{
		"put":  func() error { _, err := b.Put(t.Context(), "ab/1", "", strings.NewReader("x"), 10); return err },
		"open": func() error { _, err := b.Open(t.Context(), "ab/1", 0, -1); return err },
		"stat": func() error { _, err := b.Stat(t.Context(), "ab/1"); return err },
		"list": func() (last error) {
			for _, err := range b.List(t.Context(), "") {
				last = err
			}
			return last
		},
		"delete": func() error { return b.Delete(t.Context(), "ab/1") },
	} {
		calls.Go(func() {
			if err := call(); !fault.Is(err, fault.Unavailable) {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	calls.Go(func() {
		if err := b.Check(t.Context()); err == nil {
			t.Error("the bucket can be used")
		}
	})
	calls.Wait()
}

// S3 as its driver speaks it: an upload in parts, of which nothing is stored when it
// fails.
func TestS3_UploadsInParts(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	var mu sync.Mutex
	var parts, completed int
	var received int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		query := r.URL.Query()
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/xml")
		switch {
		case r.Method == http.MethodPost && query.Has("uploads"):
			io.WriteString(w, `<InitiateMultipartUploadResult><Bucket>bucket</Bucket><Key>ab/1</Key><UploadId>u</UploadId></InitiateMultipartUploadResult>`)
		case r.Method == http.MethodPut && query.Has("partNumber"):
			parts++
			received += n
			w.Header().Set("ETag", `"e"`)
		case r.Method == http.MethodPost:
			completed++
			io.WriteString(w, `<CompleteMultipartUploadResult><ETag>"e"</ETag></CompleteMultipartUploadResult>`)
		case r.Method == http.MethodDelete: // the parts so far
			w.WriteHeader(http.StatusNoContent)
		}
	}))
	defer server.Close()
	b := open(t, "s3://bucket?region=eu-central-1&use_path_style=true&endpoint="+url.QueryEscape(server.URL))
	const size = 22 << 20
	if n, err := b.Put(t.Context(), "ab/1", "image/png", bytes.NewReader(make([]byte, size)), size); err != nil || n != size {
		t.Fatal(n, err)
	}
	if parts < 3 || completed != 1 || received < size {
		t.Errorf("%d parts of %d bytes, completed %d times", parts, received, completed)
	}
	if _, err := b.Put(t.Context(), "ab/1", "image/png", bytes.NewReader(make([]byte, size)), size-1); !fault.Is(err, fault.TooLarge) {
		t.Error(err)
	}
	if completed != 1 {
		t.Error("an upload that is too large was completed")
	}
	signed, ok, err := b.SignUpload(context.Background(), "ab/1", time.Minute)
	if !ok || err != nil || !strings.HasPrefix(signed, server.URL+"/bucket/ab/1?") {
		t.Errorf("%s %v %v", signed, ok, err)
	}
}
