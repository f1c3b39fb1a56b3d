package boot

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// journal records what happened in which order.
type journal struct {
	mu   sync.Mutex
	list []string
}

func (j *journal) add(what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.list = append(j.list, what)
}

// worker is a service that takes some time to end.
func (j *journal) worker(name string, end time.Duration) service {
	return forever(name, func(ctx context.Context) {
		j.add("start " + name)
		<-ctx.Done()
		time.Sleep(end)
		j.add("end " + name)
	})
}

// Stages are stopped in the reverse order of their start, each one awaited
// before the next one is told; nothing runs when runStages returns.
func TestRunStages_StopsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		err := runStages(ctx, [][]service{
			{j.worker("audit", time.Second)},
			{j.worker("revocations", 0)},
			{j.worker("replies", 5*time.Second), j.worker("api", 3*time.Second)},
		}, func(failure error) {
			j.add("stopping")
			if failure != nil {
				t.Errorf("failure %v", failure)
			}
		})
		if err != nil {
			t.Error(err)
		}
		started := slices.Clone(j.list[:4])
		slices.Sort(started)
		want := []string{"start api", "start audit", "start replies", "start revocations"}
		if diff := cmp.Diff(want, started); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		want = []string{"stopping", "end api", "end replies", "end revocations", "end audit"}
		if diff := cmp.Diff(want, j.list[4:]); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// A service that fails, or just returns, ends all others, in order.
func TestRunStages_Failure(t *testing.T) {
	for name, c := range map[string]struct {
		run  func(context.Context) error
		want string
	}{
		"Error":   {func(context.Context) error { return errors.New("port taken away") }, "listener: port taken away"},
		"Returns": {func(context.Context) error { return nil }, "listener: ended by itself"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var j journal
				var told error
				err := runStages(t.Context(), [][]service{{j.worker("audit", time.Second)}, {{"listener", c.run}}},
					func(failure error) { told = failure })
				if err == nil || err.Error() != c.want || told == nil || told.Error() != c.want {
					t.Errorf("got %v, told %v, want %s", err, told, c.want)
				}
				if j.list[len(j.list)-1] != "end audit" {
					t.Errorf("%v", j.list)
				}
			})
		})
	}
}

// Errors at the end are not lost.
func TestRunStages_ErrorWhileStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := runStages(ctx, [][]service{{{"replies", func(ctx context.Context) error { <-ctx.Done(); return errors.New("not released") }}}}, func(error) {})
		if err == nil || !strings.Contains(err.Error(), "replies: not released") {
			t.Errorf("got %v", err)
		}
	})
}
