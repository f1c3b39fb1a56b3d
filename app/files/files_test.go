package files_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"parley/adapters/blobs"
	"parley/adapters/sqlstore"
	"parley/app/files"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/platform/testing/testdb"
	"parley/ports"
)

const png = "\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR and so on"

var ann = access.Principal{UserID: "ann"}

type bench struct {
	*testing.T
	*files.Service
	store   *sqlstore.Store
	sweeper *files.Sweeper
	dir     string
	quota   int64
	now     time.Time

	mu     sync.Mutex
	events []any
}

func (b *bench) Observe(_ context.Context, event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, event)
}

// each runs a test on both databases, with a directory of files.
func each(t *testing.T, test func(*bench)) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"SQLite":   func(t *testing.T) string { return testdb.SQLite(t) },
		"Postgres": func(t *testing.T) string { return testdb.Postgres(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, err := sqlstore.Open(t.Context(), sqlstore.Options{URL: url(t), Timeout: 30 * time.Second, AcquireTimeout: 30 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { store.Close() })
			if _, err := store.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			b := &bench{T: t, store: store, dir: t.TempDir(), now: time.Now().UTC().Truncate(time.Microsecond)}
			bucket, err := blobs.Open(t.Context(), "file://"+b.dir)
			if err != nil {
				t.Fatal(err)
			}
			now, newID := func() time.Time { return b.now }, func() string { return uuid.Must(uuid.NewV7()).String() }
			b.Service = &files.Service{
				Files: store, Blobs: bucket, Detect: blobs.Detect, Observer: b, Now: now, NewID: newID, MaxBytes: 1000,
				Quota: func(access.Principal) int64 { return b.quota },
				Types: []string{"image/png", "application/pdf", "text/plain", "text/csv", "text/markdown", "application/json"},
			}
			b.sweeper = &files.Sweeper{Files: store, Blobs: bucket, Observer: b, Now: now, NewID: newID}
			test(b)
		})
	}
}

func (b *bench) upload(name, content string) (chat.File, error) {
	return b.Upload(b.Context(), files.Upload{Principal: ann, Name: name, Size: int64(len(content)), Content: strings.NewReader(content)})
}

func (b *bench) stored(name, content string) chat.File {
	b.Helper()
	f, err := b.upload(name, content)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// blobs lists the files of the directory.
func (b *bench) blobs() (list []string) {
	b.Helper()
	err := filepath.Walk(b.dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return list
}

// kept fails the test unless that many rows and blobs are there.
func (b *bench) kept(want int) {
	b.Helper()
	var rows int
	if err := b.store.DB().QueryRow("SELECT count(*) FROM chat_files").Scan(&rows); err != nil {
		b.Fatal(err)
	}
	if found := b.blobs(); rows != want || len(found) != want {
		b.Errorf("%d rows and the blobs %v, want %d", rows, found, want)
	}
}

func (b *bench) sweep() ports.FilesSwept {
	b.Helper()
	swept, err := b.sweeper.Sweep(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return swept
}

func TestUpload(t *testing.T) {
	each(t, func(b *bench) {
		f := b.stored("../Mein Bild.png", png)
		digest := sha256.Sum256([]byte(png))
		want := chat.File{ID: f.ID, UserID: "ann", Name: "Mein Bild.png", MediaType: "image/png", Size: int64(len(png)),
			Digest: hex.EncodeToString(digest[:]), State: chat.FileReady, Blob: f.Blob, CreatedAt: b.now}
		got, err := b.Get(b.Context(), ann, f.ID)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			b.Error(d, err)
		}
		content, _, err := b.Read(b.Context(), "ann", f.ID)
		if string(content) != png || err != nil {
			b.Errorf("%q, %v", content, err)
		}
		if _, _, err := b.Read(b.Context(), "bob", f.ID); !fault.Is(err, fault.NotFound) {
			b.Errorf("another user reads it: %v", err)
		}
		part, err := b.Open(b.Context(), got, 1, 3)
		if err != nil {
			b.Fatal(err)
		}
		defer part.Close()
		if content, err := io.ReadAll(part); string(content) != "PNG" || err != nil {
			b.Errorf("%q, %v", content, err)
		}
		if d := cmp.Diff([]any{ports.FileUploaded{MediaType: "image/png", Bytes: int64(len(png))}}, b.events,
			cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Took" }, cmp.Ignore())); d != "" {
			b.Error(d)
		}
	})
}

// Whatever is refused, nothing of it is kept.
func TestUpload_Refused(t *testing.T) {
	each(t, func(b *bench) {
		gone := errors.New("the client has gone")
		long := strings.Repeat("x", 1001)
		for name, c := range map[string]struct {
			in   files.Upload
			kind fault.Kind
			says string
		}{
			"Nobody":              {files.Upload{Size: 1, Content: strings.NewReader("x")}, fault.Unauthenticated, "Authentication"},
			"Empty":               {files.Upload{Principal: ann}, fault.Invalid, "The file is empty"},
			"EmptyUnannounced":    {files.Upload{Principal: ann, Size: -1, Content: strings.NewReader("")}, fault.Invalid, "The file is empty"},
			"TooLarge":            {files.Upload{Principal: ann, Size: 1001, Content: unread{}}, fault.TooLarge, "A file cannot exceed 1000 bytes"},
			"TooLargeUnannounced": {files.Upload{Principal: ann, Size: -1, Content: strings.NewReader(long)}, fault.TooLarge, "A file cannot exceed 1000 bytes"},
			"MoreThanAnnounced":   {files.Upload{Principal: ann, Size: 5, Content: strings.NewReader(long)}, fault.TooLarge, "A file cannot exceed 1000 bytes"},
			"Zip":                 {files.Upload{Principal: ann, Name: "a.png", MediaType: "image/png", Size: 4, Content: strings.NewReader("PK\x03\x04")}, fault.MediaType, "Files of type application/zip are not accepted; allowed are image/png, application/pdf, text/plain, text/csv, text/markdown, application/json"},
			"HTML":                {files.Upload{Principal: ann, Name: "a.html", Size: -1, Content: strings.NewReader("<html><script>alert(1)</script>")}, fault.MediaType, "text/html are not accepted"},
			"SVG":                 {files.Upload{Principal: ann, Name: "a.png", Size: -1, Content: strings.NewReader(`<svg xmlns="http://www.w3.org/2000/svg"/>`)}, fault.MediaType, "image/svg+xml are not accepted"},
			"BinaryAfterText":     {files.Upload{Principal: ann, Name: "a.txt", Size: -1, Content: io.MultiReader(strings.NewReader(strings.Repeat("a", 900)), strings.NewReader("\x00\x01"))}, fault.MediaType, ""},
			"Latin1":              {files.Upload{Principal: ann, Name: "a.txt", Size: -1, Content: strings.NewReader("gr\xfc\xdfe")}, fault.MediaType, "A text file must be UTF-8"},
			"CutCodePoint":        {files.Upload{Principal: ann, Name: "a.txt", Size: -1, Content: strings.NewReader("abc\xe2\x82")}, fault.MediaType, "A text file must be UTF-8"},
			"CutForm":             {files.Upload{Principal: ann, Size: -1, Content: io.MultiReader(strings.NewReader("short"), broken{fault.Wrap(io.ErrUnexpectedEOF, fault.Invalid, "Cut")})}, fault.Invalid, "Cut"},
			"CutLongForm":         {files.Upload{Principal: ann, Size: -1, Content: io.MultiReader(strings.NewReader(png), broken{fault.Wrap(io.EOF, fault.Invalid, "Cut")})}, fault.Invalid, "Cut"},
			"ID":                  {files.Upload{Principal: ann, ID: "../x", Size: 1, Content: strings.NewReader("x")}, fault.Invalid, "Invalid file ID"},
			"Gone":                {files.Upload{Principal: ann, Size: 100, Content: broken{gone}}, fault.Internal, ""},
			"GoneHalfWay":         {files.Upload{Principal: ann, Size: 900, Content: io.MultiReader(strings.NewReader(png), broken{gone})}, fault.Internal, ""},
		} {
			_, err := b.Upload(b.Context(), c.in)
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.says) {
				b.Errorf("%s: %v", name, err)
			}
		}
		b.kept(0)
		if n, err := b.store.FileBytes(b.Context(), "ann"); n != 0 || err != nil {
			b.Errorf("%d bytes, %v", n, err)
		}
	})
}

// A file that is deleted while it is uploaded does not come back.
func TestUpload_DeletedMeanwhile(t *testing.T) {
	each(t, func(b *bench) {
		content := io.MultiReader(strings.NewReader(strings.Repeat("x", 5000)), readerFunc(func([]byte) (int, error) {
			if err := b.Delete(b.Context(), ann, access.Caller{}, "mine"); err != nil {
				b.Error(err)
			}
			return 0, io.EOF
		}))
		b.MaxBytes = 10_000
		_, err := b.Upload(b.Context(), files.Upload{Principal: ann, ID: "mine", Size: -1, Content: content})
		if !fault.Is(err, fault.Conflict) {
			b.Error(err)
		}
		b.kept(0)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type unread struct{}

func (unread) Read([]byte) (int, error) { panic("the content is read before its length is checked") }

type broken struct{ error }

func (r broken) Read([]byte) (int, error) { return 0, r.error }

// The content decides the type; the name only says which kind of plain text.
func TestUpload_TypeByContent(t *testing.T) {
	each(t, func(b *bench) {
		for _, c := range []struct{ name, declared, content, want string }{
			{"report.pdf", "application/pdf", png, "image/png"},
			{"picture.png", "image/png", "%PDF-1.7\nx", "application/pdf"},
			{"x", "", "a,b\n1,2\n3,4\n", "text/csv"},
			{"x.txt", "", "a,b\n1,2\n3,4\n", "text/plain"},
			{"x.md", "", "# Title", "text/markdown"},
			{"README.MD", "", `<div align="center">Hello</div>`, "text/markdown"},
			{"x", "text/markdown; charset=utf-8", "# Title", "text/markdown"},
			{"x.csv", "text/plain", "one column", "text/csv"},
			{"x.json", "application/json", `{"a": [1, 2]}`, "application/json"},
			{"x.json", "application/json", "not JSON", "text/plain"},
			{"x.geojson", "", `{"type": "Point", "coordinates": [1, 2]}`, "application/json"},
			{"run.sh", "", "#!/bin/sh\necho hi\n", "text/plain"},
			{"x.png", "image/png", "just text", "text/plain"},
			{"x.txt", "", "Grüße, €, 😀", "text/plain"},
		} {
			f, err := b.Upload(b.Context(), files.Upload{Principal: ann, Name: c.name, MediaType: c.declared, Size: -1, Content: iotest{strings.NewReader(c.content)}})
			if err != nil || f.MediaType != c.want {
				b.Errorf("%s, %s, %q: %s, %v; want %s", c.name, c.declared, c.content, f.MediaType, err, c.want)
			}
		}
	})
}

// iotest gives one byte at a time.
type iotest struct{ io.Reader }

func (r iotest) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(1, len(p))]) }

func TestUpload_Quota(t *testing.T) {
	each(t, func(b *bench) {
		b.quota = 100
		b.stored("a.txt", strings.Repeat("x", 60))
		for name, size := range map[string]int64{"announced": 41, "unannounced": -1} {
			_, err := b.Upload(b.Context(), files.Upload{Principal: ann, Size: size, Content: strings.NewReader(strings.Repeat("x", 41))})
			if f := fault.As(err); f == nil || f.Kind != fault.OverBudget || f.Details["remaining"] != int64(40) || !strings.Contains(f.Message, "40 of 100 bytes are left") {
				b.Errorf("%s: %v", name, err)
			}
		}
		b.kept(1)
		b.stored("b.txt", strings.Repeat("x", 40))
		b.quota = 0
		b.stored("c.txt", strings.Repeat("x", 400))
	})
}

// Of several uploads of one id at the same time one is stored.
func TestUpload_OneID(t *testing.T) {
	each(t, func(b *bench) {
		var wg sync.WaitGroup
		errs := make([]error, 6)
		for i := range errs {
			wg.Go(func() {
				_, errs[i] = b.Upload(b.Context(), files.Upload{Principal: ann, ID: "mine", Size: 1, Content: strings.NewReader("x")})
			})
		}
		wg.Wait()
		stored := 0
		for _, err := range errs {
			if err == nil {
				stored++
			} else if !fault.Is(err, fault.Conflict) {
				b.Error(err)
			}
		}
		if stored != 1 {
			b.Errorf("%d were stored", stored)
		}
		b.kept(1)
	})
}

func TestUpload_BlobStoreAway(t *testing.T) {
	each(t, func(b *bench) {
		f := b.stored("a.png", png)
		away := fault.New(fault.Unavailable, "The store of files is not available at the moment")
		good := b.Service.Blobs
		b.Service.Blobs = awayBlobs{good, away}
		if _, err := b.upload("b.png", png); !errors.Is(err, away) {
			b.Error(err)
		}
		if _, _, err := b.Read(b.Context(), "ann", f.ID); !errors.Is(err, away) {
			b.Error(err)
		}
		if err := b.Delete(b.Context(), ann, access.Caller{}, f.ID); err != nil {
			b.Errorf("a deletion waits for the sweep: %v", err)
		}
		b.Service.Blobs = good
		if swept := b.sweep(); swept.Deleted != 2 {
			b.Errorf("%+v", swept)
		}
		b.kept(0)
	})
}

type awayBlobs struct {
	ports.Blobs
	err error
}

func (a awayBlobs) Put(_ context.Context, _, _ string, r io.Reader, _ int64) (int64, error) {
	_, _ = r.Read(make([]byte, 10))
	return 0, a.err
}
func (a awayBlobs) Open(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, a.err
}
func (a awayBlobs) Delete(context.Context, string) error { return a.err }

func TestDelete(t *testing.T) {
	each(t, func(b *bench) {
		f := b.stored("a.png", png)
		for _, id := range []string{"unknown", "../x", ""} {
			if err := b.Delete(b.Context(), ann, access.Caller{}, id); !fault.Is(err, fault.NotFound) {
				b.Errorf("%q: %v", id, err)
			}
		}
		if err := b.Delete(b.Context(), access.Principal{UserID: "bob"}, access.Caller{}, f.ID); !fault.Is(err, fault.NotFound) {
			b.Errorf("another user's: %v", err)
		}
		if err := b.Delete(b.Context(), ann, access.Caller{IP: "192.0.2.1"}, f.ID); err != nil {
			b.Fatal(err)
		}
		b.kept(0)
		var actions int
		if err := b.store.DB().QueryRow("SELECT count(*) FROM audit_logs WHERE action IN ($1, $2) AND resource_id = $3 AND status = 'success'",
			audit.ActionFileUploaded, audit.ActionFileDeleted, f.ID).Scan(&actions); err != nil || actions != 2 {
			b.Errorf("%d audit entries, %v", actions, err)
		}
	})
}

func TestStore_KeepsOneCopy(t *testing.T) {
	each(t, func(b *bench) {
		first, err := b.Store(b.Context(), ann, access.Caller{}, "a.png", "image/png", []byte(png))
		if err != nil {
			b.Fatal(err)
		}
		second, err := b.Store(b.Context(), ann, access.Caller{}, "a.png", "image/png", []byte(png))
		if err != nil || second.ID != first.ID {
			b.Errorf("%+v, %v", second, err)
		}
		b.kept(1)
		bob := access.Principal{UserID: "bob"}
		if _, err := b.Store(b.Context(), bob, access.Caller{}, "a.png", "image/png", []byte(png)); err != nil {
			b.Error(err)
		}
		b.kept(2)
		if _, err := b.Store(b.Context(), ann, access.Caller{}, "", "", nil); !fault.Is(err, fault.Invalid) {
			b.Error(err)
		}
	})
}

func TestSweep_DeletesUnreferencedUploads(t *testing.T) {
	each(t, func(b *bench) {
		b.stored("a.png", png)
		b.now = b.now.Add(files.UnreferencedTTL - time.Minute)
		young := b.stored("b.png", png)
		if swept := b.sweep(); swept != (ports.FilesSwept{}) {
			b.Errorf("%+v", swept)
		}
		b.now = b.now.Add(2 * time.Minute)
		if swept := b.sweep(); swept != (ports.FilesSwept{Expired: 1, Deleted: 1}) {
			b.Errorf("%+v", swept)
		}
		b.kept(1)
		if _, err := b.Get(b.Context(), ann, young.ID); err != nil {
			b.Error(err)
		}
	})
}

// Rows without blobs and blobs without rows are found, in every part of the keys;
// what is young is left alone.
func TestSweeper_Compare(t *testing.T) {
	each(t, func(b *bench) {
		var all []chat.File
		for _, user := range []string{"ann", "bob", "carol", "dave"} {
			for range 3 {
				f, err := b.Upload(b.Context(), files.Upload{Principal: access.Principal{UserID: user}, Size: 1, Content: strings.NewReader("x")})
				if err != nil {
					b.Fatal(err)
				}
				all = append(all, f)
			}
		}
		compare := func(want ports.FilesSwept) {
			b.Helper()
			if swept, err := b.sweeper.Compare(b.Context()); swept != want || err != nil {
				b.Errorf("%+v, %v; want %+v", swept, err, want)
			}
		}
		path := func(f chat.File) string { return filepath.Join(b.dir, f.Blob) }
		compare(ports.FilesSwept{})
		for i, f := range all { // one of three is without its blob, one has a copy that has no row
			var err error
			switch i % 3 {
			case 0:
				err = os.Rename(path(f), path(f)+".away")
			case 1:
				err = os.WriteFile(path(f)+"u", []byte("x"), 0o600)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		for _, name := range []string{"00/0", "ff/ffff"} {
			if err := os.MkdirAll(filepath.Join(b.dir, name[:2]), 0o700); err != nil {
				b.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(b.dir, name), []byte("x"), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		compare(ports.FilesSwept{}) // young
		aged := b.now.Add(-48 * time.Hour)
		for _, name := range b.blobs() {
			if strings.HasSuffix(name, ".away") { // as a blob it would be an orphan; keep it aside
				if err := os.Rename(name, filepath.Join(b.TempDir(), filepath.Base(name))); err != nil {
					b.Fatal(err)
				}
				continue
			}
			if err := os.Chtimes(name, aged, aged); err != nil {
				b.Fatal(err)
			}
		}
		b.now = b.now.Add(25 * time.Hour)
		compare(ports.FilesSwept{Orphans: 6, Lost: 4})
		compare(ports.FilesSwept{})
		if _, err := b.Get(b.Context(), ann, all[0].ID); !fault.Is(err, fault.NotFound) {
			b.Errorf("a lost file: %v", err)
		}
		for _, f := range []chat.File{all[0], all[3]} { // from a backup
			if err := os.WriteFile(path(f), []byte("x"), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		compare(ports.FilesSwept{Found: 2})
		for _, i := range []int{0, 1, 2} {
			if _, err := b.Get(b.Context(), ann, all[i].ID); err != nil {
				b.Errorf("%d: %v", i, err)
			}
		}
	})
}

func TestForgetUser(t *testing.T) {
	each(t, func(b *bench) {
		b.stored("a.png", png)
		b.stored("b.png", png)
		if _, err := b.Upload(b.Context(), files.Upload{Principal: access.Principal{UserID: "bob"}, Size: 1, Content: strings.NewReader("x")}); err != nil {
			b.Fatal(err)
		}
		if err := b.ForgetUser(b.Context(), "ann"); err != nil {
			b.Fatal(err)
		}
		if left := b.blobs(); len(left) != 1 {
			b.Errorf("%v", left)
		}
	})
}

// A direct upload is checked as any other is, when its client says that it has
// ended. What the client sends afterwards changes nothing.
func TestDirect(t *testing.T) {
	each(t, func(b *bench) {
		if _, err := b.BeginDirect(b.Context(), files.Upload{Principal: ann, Name: "a.png", Size: 10}); !fault.Is(err, fault.Conflict) {
			b.Errorf("a store that gives out no URLs: %v", err)
		}
		b.kept(0)
		signing := signingBlobs{b.Service.Blobs, new(string)}
		b.Service.Blobs = signing
		begin := func() chat.File {
			b.Helper()
			d, err := b.BeginDirect(b.Context(), files.Upload{Principal: ann, Name: "a.png", Size: int64(len(png))})
			if err != nil || d.URL == "" || !d.Expires.After(b.now) {
				b.Fatal(d, err)
			}
			return d.File
		}
		send := func(content string) {
			b.Helper()
			if _, err := signing.Put(b.Context(), *signing.key, "", strings.NewReader(content), 1<<20); err != nil {
				b.Fatal(err)
			}
		}
		complete := func(id string) (chat.File, error) { return b.CompleteDirect(b.Context(), ann, access.Caller{}, id) }
		f := begin()
		if _, err := b.Get(b.Context(), ann, f.ID); !fault.Is(err, fault.NotFound) {
			b.Errorf("a file that is not there yet: %v", err)
		}
		if _, err := complete(f.ID); !fault.Is(err, fault.Conflict) {
			b.Errorf("nothing was sent: %v", err)
		}
		send(png)
		for range 2 {
			if done, err := complete(f.ID); err != nil || done.MediaType != "image/png" || done.Size != int64(len(png)) {
				b.Fatal(done, err)
			}
			send("<script>") // the URL is still valid
		}
		if content, _, err := b.Read(b.Context(), "ann", f.ID); string(content) != png || err != nil {
			b.Errorf("%q, %v", content, err)
		}
		if _, err := b.CompleteDirect(b.Context(), access.Principal{UserID: "bob"}, access.Caller{}, f.ID); !fault.Is(err, fault.NotFound) {
			b.Errorf("another user's: %v", err)
		}
		if err := signing.Delete(b.Context(), *signing.key); err != nil {
			b.Fatal(err)
		}
		for content, kind := range map[string]fault.Kind{"": fault.Invalid, "PK\x03\x04": fault.MediaType, strings.Repeat("x", 1001): fault.TooLarge} {
			f := begin()
			send(content)
			if _, err := complete(f.ID); !fault.Is(err, kind) {
				b.Errorf("%.10q: %v", content, err)
			}
			if _, err := complete(f.ID); !fault.Is(err, fault.NotFound) {
				b.Errorf("%.10q again: %v", content, err)
			}
		}
		b.kept(1)
	})
}

// signingBlobs gives out URLs and remembers the last key.
type signingBlobs struct {
	ports.Blobs
	key *string
}

func (s signingBlobs) SignUpload(_ context.Context, key string, _ time.Duration) (string, bool, error) {
	*s.key = key
	return "https://bucket.example.com/" + key, true, nil
}
