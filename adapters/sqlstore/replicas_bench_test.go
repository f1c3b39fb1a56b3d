package sqlstore_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"parley/adapters/sqlstore"
	"parley/platform/testing/testenv"
	"parley/ports"
)

// BenchmarkReplicas reads pages of fifty messages with and without a replica, while
// nobody writes and while turns are stored. It reports the processor time of the
// primary for each read, that of the turns included, and the share of the replica.
func BenchmarkReplicas(b *testing.B) {
	primary := testenv.StartPostgres(b)
	standby := testenv.StartStandby(b, primary)
	without := migrated(b, sqlstore.Options{URL: primary.URL()})
	with := open(b, sqlstore.Options{URL: primary.URL(), Replicas: []sqlstore.Replica{{URL: standby.URL()}}})
	for i := range 100 {
		turn(b, without, int64(i)*1000) // one user, one conversation
	}
	readsReplica(b, with)
	var n atomic.Int64
	n.Store(1_000_001)
	for _, perSecond := range []int{0, 20, 100} {
		for name, store := range map[string]*sqlstore.Store{"Primary": without, "Replica": with} {
			b.Run(fmt.Sprintf("%s/%dTurnsASecond", name, perSecond), func(b *testing.B) {
				done, stopped := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(stopped)
					for perSecond > 0 {
						select {
						case <-time.After(time.Second / time.Duration(perSecond)):
							turn(b, without, n.Add(1))
						case <-done:
							return
						}
					}
				}()
				before, used := store.ReplicatedReads(), processorTime(b, primary)
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						list, _, err := store.Messages(b.Context(), "user-0", "conv-0", ports.Page{Limit: 50})
						if err != nil || len(list) != 50 {
							b.Errorf("%d messages, %v", len(list), err)
							return
						}
					}
				})
				b.StopTimer()
				b.ReportMetric(float64((processorTime(b, primary)-used).Microseconds())/float64(b.N), "primary-µs/op")
				b.ReportMetric(100*float64(store.ReplicatedReads()[""]-before[""])/float64(b.N), "%replica")
				close(done)
				<-stopped
			})
		}
	}
}

// processorTime is what the processes of a server have used.
func processorTime(b *testing.B, s *testenv.Server) (sum time.Duration) {
	for _, pid := range s.Processes() {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))
		for _, f := range fields[11:13] { // utime, stime
			ticks, _ := strconv.Atoi(f)
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}
