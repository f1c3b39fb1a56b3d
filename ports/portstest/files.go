package portstest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// FileStoreBundle is a store of files under test.
type FileStoreBundle struct {
	Store   fileStore
	Entries func(t testing.TB, user string) []audit.Entry
}

// FileStore holds every store of files to the same contract. open returns a new,
// empty, migrated store that lives as long as the test.
func FileStore(t *testing.T, open func(t testing.TB) FileStoreBundle) {
	for name, test := range map[string]func(*fileBench){
		"Upload":       (*fileBench).upload,
		"Quota":        (*fileBench).quota,
		"OneID":        (*fileBench).oneID,
		"Isolation":    (*fileBench).isolation,
		"List":         (*fileBench).list,
		"Delete":       (*fileBench).deletion,
		"Expire":       (*fileBench).expire,
		"Lost":         (*fileBench).lost,
		"SortedByBlob": (*fileBench).sortedByBlob,
	} {
		t.Run(name, func(t *testing.T) {
			bundle := open(t)
			test(&fileBench{T: t, fileStore: bundle.Store, Entries: bundle.Entries, user: newID("user"), now: time.Now().UTC().Truncate(time.Microsecond)})
		})
	}
}

type fileStore interface {
	ports.Files
	ports.FileSweep
}

// fileBench is one user before a store of files.
type fileBench struct {
	*testing.T
	fileStore
	Entries func(t testing.TB, user string) []audit.Entry
	user    string
	now     time.Time
}

func unlimited(int64) error { return nil }

// new returns an upload that has not begun.
func (b *fileBench) new() chat.File {
	b.now = b.now.Add(time.Millisecond)
	id := newID("file")
	return chat.File{ID: id, UserID: b.user, Name: "a.png", MediaType: "image/png", Size: 3, Blob: fmt.Sprintf("aa/%062d", storeIDs.Add(1)), CreatedAt: b.now}
}

func (b *fileBench) begin(f chat.File) chat.File {
	b.Helper()
	if err := b.BeginUpload(b.Context(), f, unlimited); err != nil {
		b.Fatal(err)
	}
	return f
}

// stored returns a file that is ready.
func (b *fileBench) stored() chat.File {
	b.Helper()
	f := b.begin(b.new())
	f.Digest = "d1"
	if err := b.EndUpload(b.Context(), f, unlimited, b.entry(f)); err != nil {
		b.Fatal(err)
	}
	f.State = chat.FileReady
	return f
}

func (b *fileBench) entry(f chat.File) audit.Entry {
	return audit.Entry{ID: newID("audit"), Action: audit.ActionFileUploaded, Resource: audit.ResourceFile, ResourceID: f.ID,
		Status: audit.Success, CreatedAt: b.now, UpdatedAt: b.now}
}

func (b *fileBench) want(f chat.File) {
	b.Helper()
	got, err := b.File(b.Context(), f.UserID, f.ID)
	if err != nil {
		b.Fatal(err)
	}
	if d := cmp.Diff(f, got); d != "" {
		b.Error(d)
	}
}

func (b *fileBench) wantNone(user, id string) {
	b.Helper()
	if f, err := b.File(b.Context(), user, id); !fault.Is(err, fault.NotFound) {
		b.Errorf("found %+v, %v", f, err)
	}
}

func (b *fileBench) upload() {
	f := b.begin(b.new())
	f.State = chat.FileUploading
	b.want(f)
	f.Name, f.MediaType, f.Size, f.Digest, f.State = "b.pdf", "application/pdf", 17, "abc", chat.FileReady
	if err := b.EndUpload(b.Context(), f, unlimited, b.entry(f)); err != nil {
		b.Fatal(err)
	}
	b.want(f)
	if list := b.Entries(b.T, b.user); len(list) != 1 || list[0].Action != audit.ActionFileUploaded || list[0].ResourceID != f.ID {
		b.Errorf("audit entries %+v", list)
	}
	// What is over is over.
	for what, again := range map[string]chat.File{"ended": f, "another blob": {UserID: f.UserID, ID: f.ID, Blob: "other"}, "unknown": b.new()} {
		if err := b.EndUpload(b.Context(), again, unlimited, b.entry(again)); !fault.Is(err, fault.NotFound) {
			b.Errorf("%s: %v", what, err)
		}
		if err := b.CancelUpload(b.Context(), again); err != nil {
			b.Errorf("%s: %v", what, err)
		}
	}
	b.want(f)
	if list := b.Entries(b.T, b.user); len(list) != 1 {
		b.Errorf("%d audit entries", len(list))
	}
	canceled := b.begin(b.new())
	if err := b.CancelUpload(b.Context(), canceled); err != nil {
		b.Fatal(err)
	}
	b.wantNone(canceled.UserID, canceled.ID)
	if err := b.EndUpload(b.Context(), canceled, unlimited, b.entry(canceled)); !fault.Is(err, fault.NotFound) {
		b.Errorf("a cancelled upload ended with %v", err)
	}
}

func (b *fileBench) quota() {
	first := b.begin(b.new()) // 3 bytes
	refused := errors.New("refused")
	var used int64
	no := func(n int64) error { used = n; return fault.Wrap(refused, fault.OverBudget, "Full") }
	second := b.new()
	if err := b.BeginUpload(b.Context(), second, no); !errors.Is(err, refused) || used != 3 {
		b.Errorf("%v with %d bytes used", err, used)
	}
	b.wantNone(second.UserID, second.ID)
	first.Size = 100
	if err := b.EndUpload(b.Context(), first, no, b.entry(first)); !errors.Is(err, refused) || used != 0 {
		b.Errorf("%v with %d bytes used beside the file itself", err, used)
	}
	if err := b.EndUpload(b.Context(), first, unlimited, b.entry(first)); err != nil {
		b.Fatal(err)
	}
	if n, err := b.FileBytes(b.Context(), b.user); err != nil || n != 100 {
		b.Errorf("%d bytes, %v", n, err)
	}
	if _, err := b.DeleteFile(b.Context(), b.user, first.ID, b.entry(first)); err != nil {
		b.Fatal(err)
	}
	if n, err := b.FileBytes(b.Context(), b.user); err != nil || n != 0 {
		b.Errorf("%d bytes after the deletion, %v", n, err)
	}
}

func (b *fileBench) oneID() {
	f := b.stored()
	again := b.new()
	again.ID = f.ID
	if err := b.BeginUpload(b.Context(), again, unlimited); !fault.Is(err, fault.Conflict) {
		b.Errorf("a second upload of one id: %v", err)
	}
	b.want(f)
	going := b.begin(b.new())
	again.ID = going.ID
	if err := b.BeginUpload(b.Context(), again, unlimited); !fault.Is(err, fault.Conflict) {
		b.Errorf("a second upload beside the first: %v", err)
	}
	again.ID, again.UserID = f.ID, newID("user")
	b.begin(again) // ids are per user
}

func (b *fileBench) isolation() {
	f := b.stored()
	other := newID("user")
	b.wantNone(other, f.ID)
	b.wantNone("", f.ID)
	if _, err := b.DeleteFile(b.Context(), other, f.ID, b.entry(f)); !fault.Is(err, fault.NotFound) {
		b.Errorf("deleted another user's: %v", err)
	}
	stolen := b.begin(b.new())
	foreign := stolen
	foreign.UserID = other
	if err := b.EndUpload(b.Context(), foreign, unlimited, b.entry(foreign)); !fault.Is(err, fault.NotFound) {
		b.Errorf("ended another user's upload: %v", err)
	}
	if err := b.BeginUpload(b.Context(), chat.File{ID: "x", Blob: "x"}, unlimited); !fault.Is(err, fault.Unauthenticated) {
		b.Errorf("an upload of no user: %v", err)
	}
	b.want(f)
}

func (b *fileBench) list() {
	var want []chat.File
	for range 3 {
		want = append([]chat.File{b.stored()}, want...)
	}
	b.begin(b.new()) // not ready
	list, more, err := b.FilesOf(b.Context(), b.user, ports.Page{Limit: 2})
	if d := cmp.Diff(want[:2], list); d != "" || !more || err != nil {
		b.Errorf("%v %v\n%s", more, err, d)
	}
	before := &ports.Position{At: list[1].CreatedAt, ID: list[1].ID}
	list, more, err = b.FilesOf(b.Context(), b.user, ports.Page{Limit: 2, Before: before})
	if d := cmp.Diff(want[2:], list); d != "" || more || err != nil {
		b.Errorf("%v %v\n%s", more, err, d)
	}
}

func (b *fileBench) deletion() {
	f := b.stored()
	got, err := b.DeleteFile(b.Context(), b.user, f.ID, b.entry(f))
	if err != nil || got.Blob != f.Blob {
		b.Fatal(got, err)
	}
	b.wantNone(b.user, f.ID)
	if _, err := b.DeleteFile(b.Context(), b.user, f.ID, b.entry(f)); !fault.Is(err, fault.NotFound) {
		b.Errorf("deleted again: %v", err)
	}
	deleted, err := b.DeletedFiles(b.Context(), 10)
	if err != nil || len(deleted) != 1 || deleted[0].ID != f.ID || deleted[0].State != chat.FileDeleted {
		b.Fatalf("%+v, %v", deleted, err)
	}
	kept := b.stored()
	for _, gone := range []chat.File{deleted[0], kept} { // the second one is not deleted, and stays
		if err := b.ForgetFile(b.Context(), gone); err != nil {
			b.Fatal(err)
		}
	}
	if deleted, err := b.DeletedFiles(b.Context(), 10); err != nil || len(deleted) != 0 {
		b.Errorf("%+v, %v", deleted, err)
	}
	b.want(kept)
}

func (b *fileBench) expire() {
	old, going := b.stored(), b.begin(b.new())
	limit := b.now.Add(time.Microsecond)
	young := b.stored()
	entry := func(f chat.File) audit.Entry {
		e := b.entry(f)
		e.Action = audit.ActionFileExpired
		return e
	}
	for _, want := range []int{1, 1, 0} {
		if n, err := b.ExpireFiles(b.Context(), limit, 1, entry); err != nil || n != want {
			b.Errorf("expired %d, %v; want %d", n, err, want)
		}
	}
	b.wantNone(b.user, old.ID)
	b.wantNone(b.user, going.ID)
	b.want(young)
	expired := map[string]bool{}
	for _, e := range b.Entries(b.T, b.user) {
		if e.Action == audit.ActionFileExpired {
			expired[e.ResourceID] = true
		}
	}
	if d := cmp.Diff(map[string]bool{old.ID: true, going.ID: true}, expired); d != "" {
		b.Error(d)
	}
}

func (b *fileBench) lost() {
	f, going := b.stored(), b.begin(b.new())
	for _, lost := range []bool{true, true, false, false} {
		for _, each := range []chat.File{f, going} {
			if err := b.SetFileLost(b.Context(), each, lost); err != nil {
				b.Fatal(err)
			}
		}
		f.State, going.State = chat.FileReady, chat.FileUploading
		if lost {
			f.State = chat.FileLost
		}
		b.want(f)
		b.want(going)
	}
}

func (b *fileBench) sortedByBlob() {
	var want []string
	for _, key := range []string{"00/1", "0a/1", "a0/0", "a0/1", "a0/f", "a1/0", "fa/0"} {
		f := b.new()
		f.Blob = key
		b.begin(f)
		want = append(want, key)
	}
	keys := func(after, end string, n int) (list []string) {
		found, err := b.FilesByBlob(b.Context(), after, end, n)
		if err != nil {
			b.Fatal(err)
		}
		for _, f := range found {
			list = append(list, f.Blob)
		}
		return list
	}
	for _, c := range []struct {
		after, end string
		n          int
		want       []string
	}{{"", "g", 100, want}, {"a0/", "a1", 100, want[2:5]}, {"a0/", "a1", 1, want[2:3]}, {"a0/1", "a1", 9, want[4:5]}, {"ff/", "g", 9, nil}} {
		if d := cmp.Diff(c.want, keys(c.after, c.end, c.n)); d != "" {
			b.Errorf("%+v: %s", c, d)
		}
	}
}
