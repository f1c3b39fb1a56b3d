package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sink is a collector that takes every span and keeps none.
func sink() (url string, stop func() error, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s := &http.Server{ReadHeaderTimeout: readyTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/x-protobuf")
	})}
	go s.Serve(l)
	return "http://" + l.Addr().String(), s.Close, nil
}

// pace is the time between two words of a reply, about that of a model.
const pace = 20 * time.Millisecond

// relays measures streams on a server of their own.
func relays(ctx context.Context, w *world, out io.Writer) error {
	s, err := w.startParley("streams", w.bin, w.role, "DEMO_DELAY="+pace.String(), "AI_FIRST_TOKEN_TIMEOUT=10m")
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.relay(ctx, out); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	if err := s.idle(ctx, out); err != nil {
		return fmt.Errorf("followers: %w", err)
	}
	return nil
}

// relay reads many replies as they are made, and asks for the CPU of a word.
func (s *server) relay(ctx context.Context, out io.Writer) error {
	const words = 500
	before, _, err := s.cpu()
	if err != nil {
		return err
	}
	idle, err := s.rss()
	if err != nil {
		return err
	}
	var (
		events, bytes, peak atomic.Int64
		all                 sync.WaitGroup
		begun               = time.Now()
		failed              = make(chan error, *streams)
	)
	for i := range *streams {
		all.Go(func() {
			resp, err := s.open(ctx, i, "/api/chat/stream", map[string]any{"content": fmt.Sprint("!long ", words)})
			if err != nil {
				failed <- err
				return
			}
			defer resp.Body.Close()
			lines, ended := bufio.NewScanner(resp.Body), false
			for lines.Scan() {
				if line := lines.Text(); strings.HasPrefix(line, "data: ") {
					events.Add(1)
					bytes.Add(int64(len(line)))
					ended = ended || strings.Contains(line, `"type":"end"`)
				}
			}
			if !ended {
				failed <- errors.Join(errors.New("a stream ended early"), lines.Err())
			}
			if now, err := s.rss(); err == nil {
				peak.Store(max(peak.Load(), now))
			}
		})
	}
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	after, _, err := s.cpu()
	if err != nil {
		return err
	}
	used, n := after-before, *streams*words
	fmt.Fprintf(out, "Streams: %d replies at once of %d words, a word every %v (%.1f s)\n\n", *streams, words, pace, time.Since(begun).Seconds())
	fmt.Fprintf(out, "| | |\n|---|---|\n| server CPU for a word from the provider | %.1f µs |\n", 1000*ms(used)/float64(n))
	fmt.Fprintf(out, "| events that the words travelled in | %d (%.1f words each) |\n", events.Load(), float64(n)/float64(events.Load()))
	fmt.Fprintf(out, "| server CPU for an event | %.1f µs |\n", 1000*ms(used)/float64(events.Load()))
	fmt.Fprintf(out, "| server memory before and under it | %d MiB, %d MiB |\n\n", idle>>20, peak.Load()>>20)
	return nil
}

// idle has many readers follow a reply that does not come.
func (s *server) idle(ctx context.Context, out io.Writer) error {
	run, stop, err := s.hanging(ctx)
	if err != nil {
		return err
	}
	defer stop()
	time.Sleep(3 * time.Second) // the garbage of what was before
	before, err := s.rss()
	if err != nil {
		return err
	}
	request := fmt.Sprintf("GET /api/chat/messages/%s/stream HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n\r\n", run, s.tokens[0])
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	first := make([]byte, 4096)
	for range *followers {
		conn, err := (&net.Dialer{Timeout: readyTimeout}).DialContext(ctx, "tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			return err
		}
		conns = append(conns, conn)
		if _, err := io.WriteString(conn, request); err != nil {
			return err
		}
		n, err := conn.Read(first)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(first[:n], []byte("HTTP/1.1 200")) {
			return fmt.Errorf("answered %q", first[:n])
		}
	}
	time.Sleep(5 * time.Second)
	after, err := s.rss()
	if err != nil {
		return err
	}
	begun, _, err := s.cpu()
	if err != nil {
		return err
	}
	const watched = 10 * time.Second
	time.Sleep(watched)
	ended, _, err := s.cpu()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Readers: %d follow one reply that does not come\n\n| | |\n|---|---|\n", *followers)
	fmt.Fprintf(out, "| server memory without and with them | %d MiB, %d MiB |\n", before>>20, after>>20)
	fmt.Fprintf(out, "| a reader | %.1f KiB |\n", float64(after-before)/1024/float64(*followers))
	fmt.Fprintf(out, "| server CPU while nothing happens | %.2f %% of a core |\n", 100*float64(ended-begun)/float64(watched))
	return nil
}

// hanging begins a reply that never comes and returns its id.
func (s *server) hanging(ctx context.Context) (run string, stop func() error, err error) {
	resp, err := s.open(ctx, 0, "/api/chat/stream", map[string]any{"content": "!hang"})
	if err != nil {
		return "", nil, err
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var start struct{ RunID string }
		if err := json.Unmarshal([]byte(data), &start); err != nil {
			return "", nil, err
		}
		return start.RunID, resp.Body.Close, nil
	}
	resp.Body.Close()
	return "", nil, errors.New("the stream did not start")
}
