package main

import (
	"context"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/platform/testing/testenv"
)

// proxied returns a proxy in front of a database, and the database's URL with
// and without it.
func proxied(t *testing.T) (p *proxy, through, direct string) {
	t.Helper()
	direct = testenv.Postgres(t)
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	if p, err = newProxy(u.Host, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	u.Host = p.addr()
	return p, u.String(), direct
}

func connect(t *testing.T, ctx context.Context, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// The server has committed, and the client cannot know.
func TestProxy_SwallowsAcknowledgements(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, through, direct := proxied(t)
	witness := connect(t, ctx, direct)
	if _, err := witness.Exec(ctx, "CREATE TABLE kept (n int)"); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		write func(conn *pgx.Conn) error
	}{
		{"of a transaction", func(conn *pgx.Conn) error {
			tx, err := conn.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "INSERT INTO kept VALUES (1)"); err != nil {
				t.Errorf("a statement inside the transaction failed: %v", err)
			}
			return tx.Commit(ctx)
		}},
		{"of a single statement", func(conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "INSERT INTO kept VALUES (1)")
			return err
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := witness.Exec(ctx, "TRUNCATE kept"); err != nil {
				t.Fatal(err)
			}
			conn := connect(t, ctx, through)
			before := p.swallowed.Load()
			p.armed.Store(1)
			var one int
			if err := conn.QueryRow(ctx, "SELECT 1").Scan(&one); err != nil {
				t.Fatalf("a read was cut: %v", err)
			}
			if err := tt.write(conn); err == nil {
				t.Error("the write was acknowledged")
			}
			var rows int
			if err := witness.QueryRow(ctx, "SELECT count(*) FROM kept").Scan(&rows); err != nil || rows != 1 {
				t.Errorf("%d rows are stored (%v), want 1", rows, err)
			}
			if got := p.swallowed.Load() - before; got != 1 {
				t.Errorf("swallowed %d acknowledgements, want 1", got)
			}
			if err := tt.write(connect(t, ctx, through)); err != nil {
				t.Errorf("the next write failed as well: %v", err)
			}
		})
	}
}

func TestProxy_SilentAndCut(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	p, through, _ := proxied(t)
	conn := connect(t, ctx, through)
	p.silent.Store(true)
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(ctx) }()
	select {
	case err := <-answered:
		t.Fatalf("a silent proxy let an answer through (%v)", err)
	case <-time.After(100 * time.Millisecond):
	}
	p.silent.Store(false)
	if err := <-answered; err != nil {
		t.Errorf("the answer was lost: %v", err)
	}
	p.cut()
	if err := conn.Ping(ctx); err == nil {
		t.Error("the connection survived a cut")
	}
	if c, err := net.Dial("tcp", p.addr()); err != nil {
		t.Errorf("no new connection after a cut: %v", err)
	} else {
		c.Close()
	}
}
