package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// Run starts one Postgres for all test processes of a command, so that each
// needs none of its own, runs the command with TEST_DATABASE_URL set, and
// returns its exit code. A TEST_DATABASE_URL that is set already is used as it
// is. Redis is not shared: a private one starts in milliseconds, but the
// program is looked up (and installed) here, once.
func Run(command []string) (code int, err error) {
	if len(command) == 0 {
		return 2, errors.New("usage: testenv command [argument ...]")
	}
	if os.Getenv(EnvRedis) == "" {
		if _, err := find("redis-server"); err != nil {
			return 1, err
		}
	}
	if strings.Contains(strings.Join(command, " "), "-race") && os.Getenv("CC") == "" {
		if _, err := find("gcc"); err != nil { // what the race detector is linked with
			return 1, err
		}
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = os.Environ()
	if os.Getenv(EnvPostgres) == "" {
		server, err := launchShared()
		if err != nil {
			return 1, err
		}
		defer server.Stop()
		cmd.Env = append(cmd.Env, EnvPostgres+"="+server.URL())
	}
	// ^C reaches the command by itself; a SIGTERM is passed on. Either way we
	// outlive it, to stop the server.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, fmt.Errorf("start %s: %w", command[0], err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGTERM {
				cmd.Process.Signal(s)
			}
		case err := <-ended:
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				return 1, err
			}
			if cmd.ProcessState.ExitCode() < 0 { // by a signal
				return 1, nil
			}
			return cmd.ProcessState.ExitCode(), nil
		}
	}
}
