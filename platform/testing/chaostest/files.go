package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// fileRow is a row of chat_files.
type fileRow struct{ UserID, ID, State, Digest, Blob string }

// files is what the clients know of files, and what the directory of blobs holds.
type files struct {
	uploaded map[rowID]string // digests, by user and id: uploads that were acknowledged
	blobs    map[string]string
}

// upload sends a text file. Nobody repeats one whose answer is lost: what is left
// of it goes with the sweep.
func (u *user) upload(ctx context.Context, rng *rand.Rand) {
	text := prose(rng, "file of "+u.user, 20+rng.IntN(3000))
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+u.pick(rng).addr+"/api/chat/files?name=notes.txt", strings.NewReader(text))
	if err != nil {
		return
	}
	req.Header.Set("Authorization", "Bearer "+u.token)
	req.Header.Set("Content-Type", "text/plain")
	a, ok := u.exchange(req)
	if !ok || a.status != http.StatusCreated || a.body.ID == "" {
		return
	}
	u.h.uploaded(u.user, a.body.ID, digestOf([]byte(text)))
	u.mu.Lock()
	defer u.mu.Unlock()
	u.files = append(u.files, a.body.ID)
}

// download reads a file back.
func (u *user) download(ctx context.Context, rng *rand.Rand) {
	id := u.anyFile(rng)
	if id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	resp, err := u.open(ctx, u.pick(rng), http.MethodGet, "/api/chat/files/"+id, "", nil, nil)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	switch {
	case err != nil, resp.StatusCode == http.StatusServiceUnavailable:
	case resp.StatusCode != http.StatusOK:
		u.h.violate("I8", "file %s, whose upload was acknowledged: %d", id, resp.StatusCode)
	case digestOf(content) != u.h.digest(u.user, id):
		u.h.violate("I8", "file %s came back as other %d bytes", id, len(content))
	}
}

func (u *user) anyFile(rng *rand.Rand) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.files) == 0 {
		return ""
	}
	return u.files[rng.IntN(len(u.files))]
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

func (h *history) uploaded(user, id, digest string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.files.uploaded[rowID{user, id}] = digest
}

func (h *history) digest(user, id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.files.uploaded[rowID{user, id}]
}

// blobsIn returns the digests of the blobs in a directory, by key.
func blobsIn(dir string) (map[string]string, error) {
	blobs := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		blobs[filepath.ToSlash(key)] = digestOf(content)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read blobs: %w", err)
	}
	return blobs, nil
}

// files: what was acknowledged is there, row and bytes, and no blob is without a
// row. A row without bytes is an upload that has not ended, or one that goes.
func (b *ledger) files(v *verdict, h *history) {
	byBlob := map[string]fileRow{}
	byID := map[rowID]fileRow{}
	for _, f := range b.s.Files {
		byBlob[f.Blob], byID[rowID{f.UserID, f.ID}] = f, f
	}
	for id, digest := range h.files.uploaded {
		f, ok := byID[id]
		switch {
		case !ok || f.State != "ready":
			v.lost++
			v.add("I8", "file %s was acknowledged and is %q", id.id, f.State)
		case f.Digest != digest || h.files.blobs[f.Blob] != digest:
			v.add("I8", "file %s is not what was sent", id.id)
		}
	}
	for key := range h.files.blobs {
		if strings.HasPrefix(filepath.Base(key), "fileblob") { // of a process that was killed; the sweep deletes it
			continue
		}
		if _, ok := byBlob[key]; !ok {
			v.add("I8", "blob %s belongs to no file", key)
		}
	}
	v.files = len(h.files.uploaded)
}
