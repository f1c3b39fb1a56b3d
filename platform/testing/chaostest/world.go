package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"parley/platform/testing/testenv"
)

// world is everything that a run of the harness starts.
type world struct {
	dir      string // of logs and the binary
	bin      string
	postgres *testenv.Server
	redis    *testenv.Server
	provider *provider
	slots    []*slot
	env      []string
}

// secret signs the tokens of this run.
const secret = "crash-harness-secret-of-no-value-0123456789"

// build makes the binary with its failpoints, from the module's root.
func (w *world) build(ctx context.Context, race bool) error {
	args := []string{"build", "-tags", "failpoints", "-o", w.bin}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "parley")...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build parley: %w", err)
	}
	return nil
}

// newWorld starts the servers and two instances.
func newWorld(ctx context.Context, h *history, race bool, env []string) (w *world, err error) {
	w = &world{}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.dir, err = os.MkdirTemp("", "parley-crash-"); err != nil {
		return w, err
	}
	w.bin = filepath.Join(w.dir, "parley")
	if err = w.build(ctx, race); err != nil {
		return w, err
	}
	if w.postgres, err = testenv.LaunchPostgres(); err != nil {
		return w, err
	}
	if w.redis, err = testenv.LaunchRedis(); err != nil {
		return w, err
	}
	if w.provider, err = newProvider(h); err != nil {
		return w, err
	}
	w.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "DATA_DIR=" + filepath.Join(w.dir, "data"),
		"AUTH_SECRET=" + secret, "LOG_FORMAT=json", "LOG_LEVEL=info",
		"OPENAI_API_KEY=sk-none", "OPENAI_BASE_URL=" + w.provider.url(), "OPENAI_MODEL=scripted", "AI_PROVIDERS=openai",
		// The users of the load are not what is limited; two others are.
		"RATE_LIMIT_AUTHENTICATED=100000", "MAX_CONCURRENT_REPLIES=0",
		"AUDIT_HEADS=" + filepath.Join(w.dir, "heads"),
		"SHUTDOWN_TIMEOUT=" + shutdownTimeout.String(), "INSTANCES=2",
	}
	w.env = append(w.env, env...)
	if out, err := w.command(ctx, "DATABASE_URL="+w.postgres.URL(), "migrate", "up"); err != nil {
		return w, fmt.Errorf("migrate: %w\n%s", err, out)
	}
	if err = observe(ctx, w.postgres.URL()); err != nil {
		return w, err
	}
	for _, letter := range []string{"a", "b"} {
		if err = w.open(letter); err != nil {
			return w, err
		}
	}
	return w, nil
}

// command runs the program to its end.
func (w *world) command(ctx context.Context, env string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, w.bin, args...)
	cmd.Env = append(append([]string{}, w.env...), env)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out) + stderr.String(), err
	}
	return strings.TrimSpace(string(out)), nil
}

// verifyAudit has the program check that its audit log is what it sealed, and
// returns its summary.
func (w *world) verifyAudit(ctx context.Context, h *history) string {
	time.Sleep(2 * time.Second) // the last entries are sealed within one
	out, err := w.command(ctx, "DATABASE_URL="+w.postgres.URL(), "audit", "verify")
	if err != nil {
		h.violate("I3", "audit verify: %v: %s", err, out)
	}
	summary, _, _ := strings.Cut(out, "\n")
	if err == nil && !strings.Contains(summary, " 0 entries waiting") {
		h.violate("I3", "not all entries are sealed: %s", summary)
	}
	return summary
}

// open makes a slot with proxies of its own, and starts an instance in it.
func (w *world) open(letter string) error {
	s := &slot{letter: letter, bin: w.bin}
	var err error
	if s.pg, err = newProxy(w.postgres.Addr(), true); err != nil {
		return err
	}
	if s.redis, err = newProxy(w.redis.Addr(), false); err != nil {
		return err
	}
	s.addr, s.admin = testenv.FreeAddr(), testenv.FreeAddr()
	if s.log, err = os.Create(filepath.Join(w.dir, letter+".log")); err != nil {
		return err
	}
	s.env = append(append([]string{}, w.env...),
		"DATABASE_URL="+through(w.postgres.URL(), s.pg), "REDIS_URL="+through(w.redis.URL(), s.redis))
	w.slots = append(w.slots, s)
	_, err = s.start("")
	return err
}

// through is a server's URL by way of a proxy.
func through(server string, p *proxy) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(err) // testenv made it
	}
	u.Host = p.addr()
	return u.String()
}

// token makes a token for a user.
func (w *world) token(ctx context.Context, user, tier string) (string, error) {
	out, err := w.command(ctx, "TIER=", "token", "--user", user, "--tier", tier)
	if err != nil {
		return "", fmt.Errorf("token: %w\n%s", err, out)
	}
	return out, nil
}

// close ends everything that was started. The logs stay.
func (w *world) close() {
	for _, s := range w.slots {
		if p := s.current(); p != nil && !p.gone() {
			p.kill()
		}
		s.pg.close()
		s.redis.close()
		s.log.Close()
	}
	if w.provider != nil {
		w.provider.close()
	}
	if w.redis != nil {
		w.redis.Stop()
	}
	if w.postgres != nil {
		w.postgres.Stop()
	}
	os.Remove(w.bin)
}

// awaitRest waits until every run has ended.
func (w *world) awaitRest(ctx context.Context, replyTimeout time.Duration) (open int, err error) {
	for deadline := time.Now().Add(replyTimeout); ; time.Sleep(200 * time.Millisecond) {
		open, err = settled(ctx, w.postgres.URL())
		if err == nil && open == 0 || time.Now().After(deadline) || ctx.Err() != nil {
			return open, err
		}
	}
}
