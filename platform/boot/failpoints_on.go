//go:build failpoints

package boot

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"parley/app/replies"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

// FailpointVariable names the failpoint at which the process kills itself, and
// at which hit: finish.before:3 is just before the end of the third run is
// written. There is a point before and after every writing call of the store:
// finish.before is between a checkpoint and the end, admit.after between the
// commit and the response.
const FailpointVariable = "PARLEY_FAILPOINT"

// failpoints are the names of the points.
var failpoints = func() map[string]bool {
	names := map[string]bool{}
	for _, name := range []string{"admit", "resume", "checkpoint", "heartbeat", "finish", "claim", "release", "stop"} {
		names[name+".before"], names[name+".after"] = true, true
	}
	return names
}()

func init() {
	setting := os.Getenv(FailpointVariable)
	if setting == "" {
		return
	}
	point, hit, _ := strings.Cut(setting, ":")
	hits, err := strconv.ParseInt(hit, 10, 64)
	if err != nil || hits < 1 || !failpoints[point] {
		panic(fmt.Sprintf("%s=%s: want one of %v with a count, such as finish.before:3", FailpointVariable, setting, failpoints))
	}
	armed := &failpoint{at: point}
	armed.left.Store(hits)
	wrapStore = func(s replies.Store) replies.Store { return failingStore{s, armed} }
}

// failpoint is the point at which this process kills itself.
type failpoint struct {
	at   string
	left atomic.Int64
}

func (f *failpoint) pass(point string) {
	if point == f.at && f.left.Add(-1) == 0 {
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Hour) // until the signal arrives
	}
}

// failingStore passes a failpoint before and after each writing call.
type failingStore struct {
	replies.Store
	fail *failpoint
}

// around runs do between the two points of a name.
func around(f *failpoint, name string, do func()) {
	f.pass(name + ".before")
	do()
	f.pass(name + ".after")
}

func (s failingStore) Admit(ctx context.Context, a chat.AdmitRequest, decide ports.AdmitDecision) (out chat.Admitted, err error) {
	around(s.fail, "admit", func() { out, err = s.Store.Admit(ctx, a, decide) })
	return out, err
}

func (s failingStore) Resume(ctx context.Context, run chat.Run, n int) (conv chat.Conversation, branch []chat.Message, err error) {
	around(s.fail, "resume", func() { conv, branch, err = s.Store.Resume(ctx, run, n) })
	return conv, branch, err
}

func (s failingStore) Checkpoint(ctx context.Context, owner string, points []chat.Checkpoint) (fenced []string, err error) {
	around(s.fail, "checkpoint", func() { fenced, err = s.Store.Checkpoint(ctx, owner, points) })
	return fenced, err
}

func (s failingStore) Heartbeat(ctx context.Context, owner string, made []string, lease time.Duration) (held []chat.Run, err error) {
	around(s.fail, "heartbeat", func() { held, err = s.Store.Heartbeat(ctx, owner, made, lease) })
	return held, err
}

func (s failingStore) Finish(ctx context.Context, o chat.Outcome, decide ports.FinishDecision) (waiting bool, err error) {
	around(s.fail, "finish", func() { waiting, err = s.Store.Finish(ctx, o, decide) })
	return waiting, err
}

func (s failingStore) Claim(ctx context.Context, owner string, lease time.Duration, n int) (runs []chat.Run, err error) {
	around(s.fail, "claim", func() { runs, err = s.Store.Claim(ctx, owner, lease, n) })
	return runs, err
}

func (s failingStore) Release(ctx context.Context, owner string, ids []string) (err error) {
	around(s.fail, "release", func() { err = s.Store.Release(ctx, owner, ids) })
	return err
}

func (s failingStore) RequestStop(ctx context.Context, user, id string, entry audit.Entry) (run chat.Run, err error) {
	around(s.fail, "stop", func() { run, err = s.Store.RequestStop(ctx, user, id, entry) })
	return run, err
}
