package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// startStreaming starts a Parley that asks an upstream.
func (b *bench) startStreaming(name string, env ...string) (*server, *upstream, error) {
	u, err := startUpstream()
	if err != nil {
		return nil, nil, err
	}
	s, err := b.startParley(name, append(append(u.settings(), "MAX_STREAMS=0"), env...)...)
	if err != nil {
		u.close()
		return nil, nil, err
	}
	return s, u, nil
}

// words measures the CPU for a relayed word, of one stream and of a hundred.
func (b *bench) words(ctx context.Context) error {
	s, u, err := b.startStreaming("streams")
	if err != nil {
		return err
	}
	defer u.close()
	defer s.stop()
	length := b.seconds(5)
	text := "| | CPU/word | words an event | CPU/event | Postgres CPU/word | memory |\n|---|---|---|---|---|---|\n"
	for _, m := range []struct {
		name    string
		streams int
		pace    time.Duration
		goal    goal
	}{
		{"one stream at 200 words/s", 1, 5 * time.Millisecond, upperBound(60, " µs")},
		{"100 streams at 50 words/s", 100, 20 * time.Millisecond, upperBound(8, " µs")},
	} {
		if _, err := s.relay(ctx, m.streams, 20, m.pace); err != nil { // warm
			return err
		}
		r, err := s.relay(ctx, m.streams, int(length/m.pace), m.pace)
		if err != nil {
			return err
		}
		words := float64(r.words)
		b.table.add(row{figure: "CPU for a relayed word, " + m.name, parley: fmt.Sprintf("%.0f µs", us(r.cpu)/words), value: us(r.cpu) / words, goal: m.goal})
		text += fmt.Sprintf("| %s | %.1f µs | %.1f | %.1f µs | %.1f µs | %s |\n", m.name, us(r.cpu)/words, words/float64(r.events), us(r.cpu)/float64(r.events), us(r.postgres)/words, mib(r.memory.resident))
	}
	b.table.section("## Streams\n\nReplies of %v, from the provider's bytes to the reader's socket, storing and ending included.\n\n%s", length, text)
	return nil
}

// relayed is what streams cost.
type relayed struct {
	words, events int64
	cpu, postgres time.Duration
	memory        memory
}

func (s *server) relay(ctx context.Context, streams, words int, pace time.Duration) (relayed, error) {
	before, err := s.counters(ctx)
	if err != nil {
		return relayed{}, err
	}
	profiled := s.profile(ctx, streams, time.Duration(words)*pace)
	peak := s.watchMemory()
	var (
		events atomic.Int64
		all    sync.WaitGroup
		failed = make(chan error, streams)
	)
	for i := range streams {
		all.Go(func() {
			err := s.caller(i).stream(ctx, script(words, 0, pace, ""), func(string) bool { events.Add(1); return true })
			if err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	most := peak()
	select {
	case err := <-failed:
		return relayed{}, err
	default:
	}
	after, err := s.counters(ctx)
	if err != nil {
		return relayed{}, err
	}
	return relayed{int64(streams * words), events.Load(), after.cpu - before.cpu, after.postgres - before.postgres, most}, <-profiled
}

// firstToken measures what Parley adds to the time to the first token: what the
// reader waits beyond what the provider takes, of each reply. One caller alone shows
// what of it is not waiting for others.
func (b *bench) firstToken(ctx context.Context) error {
	s, u, err := b.startStreaming("first token")
	if err != nil {
		return err
	}
	defer u.close()
	defer s.stop()
	const callers = 16
	if _, err := s.firstTokens(ctx, u, callers, b.seconds(1)); err != nil { // warm
		return err
	}
	alone, err := s.firstTokens(ctx, u, 1, b.seconds(4))
	if err != nil {
		return err
	}
	added, err := s.firstTokens(ctx, u, callers, b.seconds(6))
	if err != nil {
		return err
	}
	for _, p := range []struct {
		of   int
		goal goal
	}{{50, upperBound(2, " ms")}, {99, upperBound(15, " ms")}} {
		v := ms(percentile(added, p.of))
		b.table.add(row{figure: fmt.Sprintf("added time to first token at c=%d, p%d", callers, p.of), parley: fmt.Sprintf("%.1f ms", v), value: v, goal: p.goal})
	}
	b.table.section("## First token\n\nAdded to what the provider takes, of %d replies to %d callers: %.1f ms at the median, %.1f at the 99th percentile. Of %d replies to one caller alone: %.1f and %.1f.",
		len(added), callers, ms(percentile(added, 50)), ms(percentile(added, 99)), len(alone), ms(percentile(alone, 50)), ms(percentile(alone, 99)))
	return nil
}

// firstTokens has callers ask for one reply after another, and returns how much longer
// than the provider took each of them waited for the first token, sorted.
func (s *server) firstTokens(ctx context.Context, u *upstream, callers int, length time.Duration) (added []time.Duration, err error) {
	var mu sync.Mutex
	profiled := s.profile(ctx, callers, length)
	_, _, err = concurrently(ctx, callers, length, func(i int) (func() error, func()) {
		c := s.caller(i)
		return func() error {
			mark := fmt.Sprint("first-", keys.Add(1))
			at, first := time.Now(), time.Duration(0)
			err := c.stream(ctx, script(10, 20*time.Millisecond, 5*time.Millisecond, mark), func(data string) bool {
				if first == 0 && strings.Contains(data, "lorem") {
					first = time.Since(at)
				}
				return true
			})
			if err != nil {
				return err
			}
			sent, ok := u.took(mark)
			if !ok || first == 0 {
				return errors.New("a stream had no first token")
			}
			mu.Lock()
			defer mu.Unlock()
			added = append(added, first-sent)
			return nil
		}, func() {}
	})
	slices.Sort(added)
	return added, errors.Join(err, <-profiled)
}

// idle measures the memory of followers of a reply that does not come.
func (b *bench) idle(ctx context.Context) error {
	n := 10_000
	if *quick {
		n = 2000
	}
	s, u, err := b.startStreaming("followers")
	if err != nil {
		return err
	}
	defer u.close()
	defer s.stop()
	run, stop, err := s.hang(ctx)
	if err != nil {
		return err
	}
	defer stop()
	rest := b.seconds(3)
	time.Sleep(rest)
	before, err := s.rss()
	if err != nil {
		return err
	}
	conns, err := s.follow(ctx, run, n)
	defer closeAll(conns)
	if err != nil {
		return err
	}
	time.Sleep(rest)
	after, err := s.rss()
	if err != nil {
		return err
	}
	begun, err := s.cpu()
	if err != nil {
		return err
	}
	time.Sleep(rest)
	ended, err := s.cpu()
	if err != nil {
		return err
	}
	closeAll(conns)
	time.Sleep(2 * rest)
	left, err := s.rss()
	if err != nil {
		return err
	}
	kib := float64(after-before) / 1024 / float64(n)
	b.table.add(row{figure: fmt.Sprintf("memory of an idle follower (%d)", n), parley: fmt.Sprintf("%.1f KiB", kib), value: kib,
		goal: goal{bound: 12, upper: true, unit: " KiB", stretch: 8}})
	b.table.section("## Idle followers\n\n%d connections follow one reply that does not come. Without the kernel's socket buffers.\n\n| | |\n|---|---|\n"+
		"| memory without, with them, and %v after they left | %s, %s, %s |\n| a follower | %.1f KiB |\n| server CPU meanwhile | %.1f %% of a core |",
		n, 2*rest, mib(before), mib(after), mib(left), kib, 100*float64(ended-begun)/float64(rest))
	return nil
}

// follow opens connections that follow a run.
func (s *server) follow(ctx context.Context, run string, n int) (conns []net.Conn, err error) {
	first := make([]byte, 4096)
	for i := range n {
		conn, err := (&net.Dialer{Timeout: readyTimeout}).DialContext(ctx, "tcp", s.addr)
		if err != nil {
			return conns, err
		}
		conns = append(conns, conn)
		if _, err := conn.Write(appendRequest(nil, "GET", "/api/chat/messages/"+run+"/stream", s.tokens[0], "", nil)); err != nil {
			return conns, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(readyTimeout)); err != nil {
			return conns, err
		}
		got, err := conn.Read(first)
		if err != nil {
			return conns, err
		}
		if !bytes.HasPrefix(first[:got], []byte("HTTP/1.1 200")) {
			return conns, fmt.Errorf("follower %d: answered %q", i, first[:got])
		}
	}
	return conns, nil
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

// hang begins a reply that never comes and returns its id.
func (s *server) hang(ctx context.Context) (run string, stop func(), err error) {
	ctx, stop = context.WithCancel(ctx)
	found := make(chan string, 1)
	failed := make(chan error, 1)
	go func() {
		failed <- s.caller(0).stream(ctx, script(1, time.Hour, 0, "hang"), func(data string) bool {
			var start struct{ RunID string }
			if json.Unmarshal([]byte(data), &start) == nil && start.RunID != "" {
				select {
				case found <- start.RunID:
				default:
				}
			}
			return true
		})
	}()
	select {
	case run = <-found:
		return run, stop, nil
	case err = <-failed:
		stop()
		return "", nil, errors.Join(errors.New("the stream did not start"), err, io.ErrUnexpectedEOF)
	}
}

func mib(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }
