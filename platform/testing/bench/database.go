package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// statements measures what a turn costs Postgres by pg_stat_statements, with one
// caller: the execution of all statements, sealing included.
func (b *bench) statements(ctx context.Context) error {
	s, err := b.startParley("statements")
	if err != nil {
		return err
	}
	defer s.stop()
	var took []time.Duration
	for range 2 { // the first warms
		if _, err := b.admin.Exec(ctx, "SELECT pg_stat_statements_reset()"); err != nil {
			return err
		}
		if took, _, err = s.drive(ctx, 1, b.seconds(2)); err != nil {
			return err
		}
		if err := s.settle(ctx, 1); err != nil {
			return err
		}
	}
	u, err := url.Parse(s.database)
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(u.Path, "/")
	var total float64
	const database = " FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = $1)"
	if err := b.admin.QueryRow(ctx, "SELECT sum(total_exec_time)"+database, name).Scan(&total); err != nil {
		return err
	}
	each := total * 1000 / float64(len(took))
	b.table.add(row{figure: "Postgres time a turn by pg_stat_statements, alone", parley: fmt.Sprintf("%.0f µs", each), value: each, goal: upperBound(700, " µs")})

	found, err := b.admin.Query(ctx, "SELECT total_exec_time * 1000 / $2::float8, calls / $2::float8, left(regexp_replace(query, '\\s+', ' ', 'g'), 110)"+database+" ORDER BY 1 DESC LIMIT 12", name, float64(len(took)))
	if err != nil {
		return err
	}
	defer found.Close()
	text := "| µs a turn | calls a turn | statement |\n|---|---|---|\n"
	for found.Next() {
		var spent, calls float64
		var query string
		if err := found.Scan(&spent, &calls, &query); err != nil {
			return err
		}
		text += fmt.Sprintf("| %.0f | %.2f | `%s` |\n", spent, calls, strings.NewReplacer("|", "\\|", "`", "").Replace(query))
	}
	b.table.section("## Statements of a turn\n\nWith one caller, the largest by time.\n\n%s", text)
	return found.Err()
}

// trips measures how many times a turn waits for Postgres, with one caller, in a
// proxy between the two: a complete reply, and one that is streamed, whose first
// word is recorded before it is shown.
func (b *bench) trips(ctx context.Context) error {
	db, err := b.database(b.role)
	if err != nil {
		return err
	}
	direct, err := url.Parse(db)
	if err != nil {
		return err
	}
	proxy, err := startTripCounter(direct.Host)
	if err != nil {
		return err
	}
	defer proxy.close()
	direct.Host = proxy.addr()
	s, u, err := b.startStreaming("trips", "DATABASE_URL="+direct.String())
	if err != nil {
		return err
	}
	defer u.close()
	defer s.stop()
	c := s.caller(0)
	defer c.close()
	conversation, err := c.createConversation()
	if err != nil {
		return err
	}
	message := func(path string) func() error {
		return func() error {
			body, err := json.Marshal(map[string]string{"content": script(2, 0, 10*time.Millisecond, ""), "conversationId": conversation})
			if err != nil {
				return err
			}
			a, err := c.post(path, fmt.Sprint("bench-", keys.Add(1)), body)
			if err == nil && a.status >= 300 {
				err = fmt.Errorf("POST %s: status %d: %s", path, a.status, a.body)
			}
			return err
		}
	}
	for _, way := range []struct {
		name string
		goal goal
		turn func() error
	}{
		{"a complete reply", upperBound(2, ""), message("/api/chat/messages")},
		{"a streamed reply", upperBound(3, ""), message("/api/chat/stream")},
	} {
		const warm, turns = 10, 100
		before := int64(0)
		for n := range warm + turns {
			if n == warm { // connections stand, statements are prepared
				before = proxy.trips.Load()
			}
			if err := way.turn(); err != nil {
				return err
			}
		}
		each := float64(proxy.trips.Load()-before) / turns
		b.table.add(row{figure: "round trips of a turn, " + way.name, parley: fmt.Sprintf("%.1f", each), value: math.Round(each), verb: "%.0f", goal: way.goal})
	}
	return nil
}

// tripCounter is a proxy in front of Postgres that counts round trips: how often a
// client sends something after the server has answered, over all connections.
type tripCounter struct {
	listener net.Listener
	trips    atomic.Int64
}

func startTripCounter(target string) (*tripCounter, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tripCounter{listener: l}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				client.Close()
				continue
			}
			var answered atomic.Bool
			answered.Store(true)
			go t.copy(server, client, func() {
				if answered.Swap(false) {
					t.trips.Add(1)
				}
			})
			go t.copy(client, server, func() { answered.Store(true) })
		}
	}()
	return t, nil
}

func (t *tripCounter) copy(to, from net.Conn, seen func()) error {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			seen()
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (t *tripCounter) addr() string { return t.listener.Addr().String() }

func (t *tripCounter) close() { t.listener.Close() }
