package boot_test

import (
	"bytes"
	"context"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"

	"parley/platform/boot"
	"parley/platform/testing/testenv"
)

// beParley makes this test binary the program, so that tests can start, kill
// and restart real processes of it.
const beParley = "PARLEY_TEST_BE_PARLEY"

func TestMain(m *testing.M) {
	if os.Getenv(beParley) != "" {
		program()
	}
	testscript.Main(m, map[string]func(){"parley": program})
}

// scripts lists testdata/*.txtar, or with -short those that need no server.
func scripts(t *testing.T) (files []string) {
	t.Helper()
	all, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !testing.Short() || !bytes.Contains(text, []byte("\npostgres\n")) {
			files = append(files, name)
		}
	}
	return files
}

// program is what main does.
func program() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(boot.Run(ctx, boot.Process{Args: os.Args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr}))
}

// TestCommands runs testdata/*.txtar. The command postgres gives a script an
// empty database in DATABASE_URL, and its server's address in SERVER; sql
// STATEMENTS runs them there; mode FILE prints a file's permissions.
func TestCommands(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Files: scripts(t),
		Setup: func(env *testscript.Env) error {
			env.Setenv("ADDR", "127.0.0.1:0")
			env.Setenv("ADMIN_ADDR", "127.0.0.1:0")
			name, value, _ := strings.Cut(testenv.EndAtOnce, "=")
			env.Setenv(name, value)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"postgres": func(ts *testscript.TestScript, _ bool, _ []string) {
				raw := testenv.Postgres(t)
				ts.Setenv("DATABASE_URL", raw)
				u, err := url.Parse(raw)
				ts.Check(err)
				ts.Setenv("SERVER", u.Host)
			},
			"sql": func(ts *testscript.TestScript, _ bool, args []string) {
				conn, err := pgx.Connect(t.Context(), ts.Getenv("DATABASE_URL"))
				ts.Check(err)
				defer conn.Close(t.Context())
				for _, statements := range args {
					_, err := conn.Exec(t.Context(), statements)
					ts.Check(err)
				}
			},
			"mode": func(ts *testscript.TestScript, _ bool, args []string) {
				info, err := os.Stat(ts.MkAbs(args[1]))
				ts.Check(err)
				if got := info.Mode().String(); got != args[0] {
					ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
				}
			},
		},
	})
}
