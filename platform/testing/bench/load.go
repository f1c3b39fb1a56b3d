package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// result is one measurement of turns.
type result struct {
	rate     float64 // turns a second
	refused  int     // turns that were answered 503: the machine is too busy
	p50, p99 time.Duration
	cpu      time.Duration // of the server, a turn
	database time.Duration // of Postgres, a turn
}

// turnsPerConversation keeps the context that a reply is made from at some
// twenty messages.
const turnsPerConversation = 20

// content is a user's message of about 600 bytes.
var content = strings.Repeat("How do I keep a sourdough starter alive while I am away? ", 10)

var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}

// load has c callers, a user each, who send one message after another.
func (s *server) load(ctx context.Context, c int, length time.Duration) (result, error) {
	if _, _, _, err := s.drive(ctx, c, length/4); err != nil { // warm connections and caches
		return result{}, err
	}
	if err := s.settle(ctx, c); err != nil {
		return result{}, err
	}
	before, stored, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	profiled := s.profile(ctx, c, length)
	took, refused, elapsed, err := s.drive(ctx, c, length)
	if err != nil {
		return result{}, err
	}
	after, nowStored, err := s.cpu()
	if err != nil {
		return result{}, err
	}
	if err := <-profiled; err != nil {
		return result{}, err
	}
	slices.Sort(took)
	n := len(took)
	return result{
		rate: float64(n) / elapsed.Seconds(), refused: refused, p50: took[n/2], p99: took[n*99/100], cpu: (after - before) / time.Duration(n), database: (nowStored - stored) / time.Duration(n),
	}, nil
}

// settle gives the database statistics of tables that are not empty any more,
// as its autovacuum does within a minute: no plan may depend on whether that
// has been by just now. Then every connection plans anew.
func (s *server) settle(ctx context.Context, c int) error {
	if s.settled {
		return nil
	}
	s.settled = true
	if _, _, _, err := s.drive(ctx, c, 2*time.Second); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, s.database)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "ANALYZE"); err != nil {
		return err
	}
	_, _, _, err = s.drive(ctx, c, time.Second)
	return err
}

// profile fetches a CPU profile of the server while it is under load, if
// -profile asks for one. The last round's stays.
func (s *server) profile(ctx context.Context, c int, length time.Duration) <-chan error {
	done := make(chan error, 1)
	if *profiles == "" || s.admin == "" || length < time.Second {
		done <- nil
		return done
	}
	go func() {
		done <- func() error {
			url := fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", s.admin, int(length.Seconds()))
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			name := strings.Map(func(r rune) rune {
				if r == ' ' || r == '%' || r == '=' {
					return '-'
				}
				return r
			}, s.name)
			file, err := os.Create(filepath.Join(*profiles, fmt.Sprintf("%s-%d.pprof", name, c)))
			if err != nil {
				return err
			}
			if _, err := io.Copy(file, resp.Body); err != nil {
				file.Close()
				return err
			}
			return file.Close()
		}()
	}()
	return done
}

func (s *server) drive(ctx context.Context, c int, length time.Duration) (took []time.Duration, refused int, elapsed time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu    sync.Mutex
		all   sync.WaitGroup
		begun = time.Now()
	)
	for i := range c {
		all.Go(func() {
			var durations []time.Duration
			conversation, sorry := "", 0
			for n := 0; time.Since(begun) < length && ctx.Err() == nil; n++ {
				if n%turnsPerConversation == 0 && !s.baseline {
					var made struct{ ID string }
					if err := s.post(ctx, i, "/api/chat/conversations", map[string]any{}, &made); err != nil && !errors.Is(err, errBusy) {
						cancel(err)
						return
					}
					conversation = made.ID
				}
				at := time.Now()
				switch err := s.turn(ctx, i, conversation); {
				case errors.Is(err, errBusy):
					sorry++
				case err != nil:
					cancel(err)
					return
				default:
					durations = append(durations, time.Since(at))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			refused += sorry
			took = append(took, durations...)
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return nil, 0, 0, context.Cause(ctx)
	}
	if len(took) == 0 {
		return nil, 0, 0, errors.New("no turn was finished in time")
	}
	return took, refused, time.Since(begun), nil
}

func (s *server) turn(ctx context.Context, user int, conversation string) error {
	var reply struct {
		AssistantMessage struct{ Content string } `json:"assistantMessage"`
	}
	body := map[string]any{"content": content}
	if conversation != "" {
		body["conversationId"] = conversation
	}
	if err := s.post(ctx, user, "/api/chat/messages", body, &reply); err != nil {
		return err
	}
	if reply.AssistantMessage.Content == "" {
		return errors.New("an empty reply")
	}
	return nil
}

// errBusy is a refusal that asks to come again.
var errBusy = errors.New("status 503")

func (s *server) post(ctx context.Context, user int, path string, body, into any) error {
	resp, err := s.open(ctx, user, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func (s *server) open(ctx context.Context, user int, path string, body any) (*http.Response, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+s.tokens[user%len(s.tokens)])
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		raw, _ := io.ReadAll(resp.Body)
		if resp.StatusCode == http.StatusServiceUnavailable {
			return nil, errBusy
		}
		return nil, fmt.Errorf("POST %s: status %d: %s", path, resp.StatusCode, raw)
	}
	return resp, nil
}
