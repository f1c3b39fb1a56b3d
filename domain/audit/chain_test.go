package audit_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"parley/domain/audit"
)

func keys(t testing.TB, seed byte) *audit.ChainKeys {
	t.Helper()
	k, err := audit.NewChainKeys(bytes.Repeat([]byte{seed}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func text(s string) *string { return &s }

var line = audit.Line{
	UserID: "ann", ID: "e1", Action: "chat.message_sent", Resource: "chat_message", ResourceID: text("m1"),
	Metadata: text(`{"role": "user"}`), IPAddress: text("192.0.2.1"), UserAgent: text(""),
	Status: "failure", Error: text("timeout"), CreatedAt: "2026-11-22T10:00:00.000001", UpdatedAt: "2026-11-22T10:00:02.000000",
}

// A chain outlives releases: these values may never change.
func TestChain_FormatIsFixed(t *testing.T) {
	k := keys(t, 7)
	subject := audit.Subject{ID: "SUBJECT", Salt: bytes.Repeat([]byte{1}, 32)}
	var got []string
	var last audit.Link
	for _, kind := range []audit.LinkKind{audit.Opened, audit.Closed} {
		last = k.Append(last, audit.Link{
			Subject: subject.ID, EntryID: line.ID, Kind: kind, Digest: k.Digest(subject, kind, line),
			SealedAt: time.Date(2026, 11, 22, 10, 0, 3, 999, time.UTC),
		})
		got = append(got, hex.EncodeToString(last.Digest[:]), hex.EncodeToString(last.Hash[:]))
	}
	head := k.Sign(last, time.Date(2026, 11, 22, 10, 0, 4, 0, time.UTC))
	got = append(got, hex.EncodeToString(head.Signature))
	want := []string{
		"f9672e77b6cd128867ec9a040d506a5b668bc19b826d7cd2915299021191456c",
		"123336849f464b1337d28aeea9a1a8cf34353d35e2fe52c7f7992cc139accc71",
		"5775b625f835e5e7873d0bcbb0d6e2f69d4a0a33ff0e9e5f0b36f56841b23023",
		"468955ed9c62ae10e3b789845c2634e858514d9614c546267ff14655dd88cb99",
		"6a5326a9f601ef54dd926e3d7522aec8a089b448c0c0c9a4c51cd1e59f735c45" +
			"945e686a59dee599e16c775c614244a9b100a6af787a3ce6168a17a8e186fb00",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if last.Seq != 2 || !k.Genuine(last) || keys(t, 8).Genuine(last) {
		t.Errorf("link %+v", last)
	}
	if !head.Signed(k.HeadKey()) || head.Signed(keys(t, 8).HeadKey()) {
		t.Error("head")
	}
	later := head
	later.Time = later.Time.Add(time.Second)
	if later.Signed(k.HeadKey()) {
		t.Error("the time is not signed")
	}
}

// Two lines that differ anywhere have two digests, wherever one field ends and
// the next begins.
func TestChain_DigestTellsLinesApart(t *testing.T) {
	k := keys(t, 1)
	maybe := func(t *rapid.T, name string) *string {
		return rapid.Ptr(rapid.StringN(0, 3, 8), true).Draw(t, name)
	}
	draw := func(t *rapid.T) audit.Line {
		s := rapid.StringN(0, 3, 8)
		return audit.Line{
			UserID: s.Draw(t, "user"), ID: s.Draw(t, "id"), Action: s.Draw(t, "action"), Resource: s.Draw(t, "resource"),
			ResourceID: maybe(t, "resource id"), Metadata: maybe(t, "metadata"), IPAddress: maybe(t, "ip"), UserAgent: maybe(t, "agent"),
			Status: s.Draw(t, "status"), Error: maybe(t, "error"), CreatedAt: s.Draw(t, "created"), UpdatedAt: s.Draw(t, "updated"),
		}
	}
	outcome := func(l audit.Line) audit.Line {
		l.Status, l.Error, l.UpdatedAt = "", nil, ""
		return l
	}
	rapid.Check(t, func(t *rapid.T) {
		subject := audit.Subject{Salt: rapid.SliceOfN(rapid.Byte(), 1, 3).Draw(t, "salt")}
		a, b := draw(t), draw(t)
		if same := cmp.Equal(a, b); (k.Digest(subject, audit.Closed, a) == k.Digest(subject, audit.Closed, b)) != same {
			t.Fatalf("closed: the same line: %v; digests say otherwise", same)
		}
		if same := cmp.Equal(outcome(a), outcome(b)); (k.Digest(subject, audit.Opened, a) == k.Digest(subject, audit.Opened, b)) != same {
			t.Fatalf("opened: the same line but for its outcome: %v; digests say otherwise", same)
		}
		if k.Digest(subject, audit.Opened, a) == k.Digest(subject, audit.Closed, a) {
			t.Fatal("the kind is not in the digest")
		}
		if k.Digest(audit.Subject{Salt: append(subject.Salt, 0xff)}, audit.Closed, a) == k.Digest(subject, audit.Closed, a) {
			t.Fatal("the salt is not in the digest")
		}
	})
}

func TestRoot_SurvivesRotation(t *testing.T) {
	root := audit.NewRoot()
	wrapped, err := audit.WrapRoot("old", root)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(wrapped, root) {
		t.Error("the root can be read")
	}
	got, which, err := audit.UnwrapRoot([]string{"new", "old"}, wrapped)
	if err != nil || which != 1 || !bytes.Equal(got, root) {
		t.Errorf("unwrapped by secret %d, %v", which, err)
	}
	if _, _, err := audit.UnwrapRoot([]string{"new", "other"}, wrapped); !errors.Is(err, audit.ErrRootLocked) {
		t.Errorf("got %v", err)
	}
	if _, _, err := audit.UnwrapRoot([]string{"old"}, wrapped[:5]); !errors.Is(err, audit.ErrRootLocked) {
		t.Errorf("half a root: got %v", err)
	}
	wrapped[len(wrapped)-1]++
	if _, _, err := audit.UnwrapRoot([]string{"old"}, wrapped); !errors.Is(err, audit.ErrRootLocked) {
		t.Errorf("changed root: got %v", err)
	}
	if _, err := audit.WrapRoot("", root); err == nil {
		t.Error("an empty secret is accepted")
	}
	if _, err := audit.NewChainKeys(root[:31]); err == nil {
		t.Error("a short root is accepted")
	}
}
