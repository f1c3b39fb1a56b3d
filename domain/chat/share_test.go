package chat

import (
	"regexp"
	"testing"
	"time"

	"parley/domain/fault"
)

func TestCheckShare(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	line := func(ids ...string) (list []Message) {
		parent := ""
		for _, id := range ids {
			list = append(list, Message{ID: id, ParentID: parent})
			parent = id
		}
		return list
	}
	long := make([]Message, MaxSharedMessages+1)
	for name, c := range map[string]struct {
		c      Conversation
		branch []Message
		end    time.Time
		want   fault.Kind
	}{
		"Whole":             {branch: line("a", "b", "c")},
		"Expiring":          {branch: line("a"), end: now.Add(time.Second)},
		"InThePast":         {branch: line("a"), end: now.Add(-time.Second), want: fault.Invalid},
		"Now":               {branch: line("a"), end: now, want: fault.Invalid},
		"Empty":             {want: fault.Conflict},
		"TooLong":           {branch: long, want: fault.Conflict},
		"Temporary":         {c: Conversation{ExpiresAt: now.Add(time.Hour)}, branch: line("a"), want: fault.Conflict},
		"ThroughALiveReply": {branch: []Message{{ID: "a"}, {ID: "c", ParentID: "live"}}, want: fault.Conflict},
		"BehindALiveRoot":   {branch: []Message{{ID: "c", ParentID: "live"}}, want: fault.Conflict},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckShare(c.c, c.branch, Share{CreatedAt: now, ExpiresAt: c.end})
			if fault.KindOf(err) != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
	}
	if CheckShareCount(MaxShares-1) != nil || !fault.Is(CheckShareCount(MaxShares), fault.Conflict) {
		t.Error("the number of shares is not bounded")
	}
}

func TestShare_Expired(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for end, want := range map[time.Time]bool{{}: false, now.Add(1): false, now: true, now.Add(-1): true} {
		if got := (Share{ExpiresAt: end}).Expired(now); got != want {
			t.Errorf("%v: %v", end, got)
		}
	}
}

func TestNewShareToken(t *testing.T) {
	a, b := NewShareToken(), NewShareToken()
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`).MatchString(a) || a == b || ShareDigest(a) == ShareDigest(b) {
		t.Errorf("%q, %q", a, b)
	}
}
