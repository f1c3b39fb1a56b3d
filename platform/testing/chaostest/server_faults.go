package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// loseCommits lets the database commit and the instance not know it.
func (c *chaos) loseCommits(s *slot, f fault) error {
	if _, err := c.healthy(s, f.delay/4); err != nil {
		return err
	}
	before := s.pg.swallowed.Load()
	s.pg.armed.Store(int32(f.length))
	for range 50 {
		if s.pg.armed.Load() <= 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.pg.armed.Store(0)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.swallowed += int(s.pg.swallowed.Load() - before)
	return nil
}

// lock holds a lock that every admission, checkpoint and end of a run waits for,
// so that the instances' pools fill with those who wait.
func (c *chaos) lock(f fault) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.postgres.URL())
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer conn.Close(ctx)
	c.without(&c.away, func() {
		var tx pgx.Tx
		if tx, err = conn.Begin(ctx); err != nil {
			return
		}
		defer tx.Rollback(ctx)
		if _, err = tx.Exec(ctx, "LOCK TABLE chat_runs IN SHARE MODE"); err != nil {
			return
		}
		time.Sleep(f.length)
	})
	return err
}

func (c *chaos) flush() error {
	opt, err := redis.ParseURL(c.redis.URL())
	if err != nil {
		return err
	}
	client := redis.NewClient(opt)
	defer client.Close()
	c.without(&c.lost, func() { err = client.FlushAll(context.Background()).Err() })
	return err
}

// serving waits until an instance is ready again without having been restarted.
func (c *chaos) serving(s *slot) error {
	if s.current().gone() {
		_, err := c.restart(s, "")
		return err
	}
	begun := time.Now()
	for !s.probe("readyz") {
		if time.Since(begun) > 10*time.Second {
			c.h.violate("recovery", "slot %s was not ready 10 s after the database was", s.letter)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}
