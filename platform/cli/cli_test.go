package cli_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/platform/cli"
)

type serve struct {
	Port int `default:"8080" help:"Port to listen at."`
}

type send struct {
	To       []string      `arg:"" help:"Receivers."`
	User     string        `required:"" help:"Sender."`
	TTL      time.Duration `default:"24h" help:"How long it is kept."`
	MaxSize  int           `help:"Bytes."`
	Secure   bool          `help:"Encrypt it."`
	Scopes   []string      `name:"scope" enum:"read,write" help:"Scopes."`
	Priority string        `default:"low" enum:"low,high" help:"Priority."`
	Heads    string        `type:"path" placeholder:"FILE" help:"File of heads."`
}

type find struct {
	Name  string        `arg:"" optional:"" help:"Name."`
	ID    string        `xor:"which" required:"" help:"One."`
	All   bool          `xor:"which" required:"" help:"All."`
	Since time.Duration `help:"Age."`
}

type mail struct {
	Send send `cmd:"" help:"Send a message."`
	Find find `cmd:"" help:"Find a message."`
}

type root struct {
	Serve serve `cmd:"" default:"1" help:"Serve."`
	Mail  mail  `cmd:"" help:"Mail."`
}

func parse(args ...string) (any, error) {
	return cli.Parse("prog", "A program.", new(root), args)
}

func TestParse(t *testing.T) {
	here, err := filepath.Abs("heads")
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]any{
		"":                     &serve{Port: 8080},
		"serve":                &serve{Port: 8080},
		"--port 1":             &serve{Port: 1},
		"serve --port=-1":      &serve{Port: -1},
		"mail send a --user u": &send{To: []string{"a"}, User: "u", TTL: 24 * time.Hour, Priority: "low"},
		"mail send --user=u --ttl 1h --max-size 7 --secure a b --scope read,write --scope read --priority high --heads heads": &send{
			To: []string{"a", "b"}, User: "u", TTL: time.Hour, MaxSize: 7, Secure: true, Scopes: []string{"read", "write", "read"}, Priority: "high", Heads: here},
		"mail send --user u --secure=false -- --a":  &send{To: []string{"--a"}, User: "u", TTL: 24 * time.Hour, Priority: "low"},
		"mail send --user u send":                   &send{To: []string{"send"}, User: "u", TTL: 24 * time.Hour, Priority: "low"},
		"mail find --id 1":                          &find{ID: "1"},
		"mail find x --all --since=1m":              &find{Name: "x", All: true, Since: time.Minute},
		"mail find --all --since 1m0s serve":        &find{Name: "serve", All: true, Since: time.Minute},
		"mail send -1 --user u":                     &send{To: []string{"-1"}, User: "u", TTL: 24 * time.Hour, Priority: "low"},
		"mail send - --user u --heads=/tmp/../etc ": &send{To: []string{"-"}, User: "u", TTL: 24 * time.Hour, Priority: "low", Heads: "/etc"},
	} {
		got, err := parse(strings.Fields(args)...)
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
}

// The empty string is a value, and so is what begins with one hyphen.
func TestParse_OddValues(t *testing.T) {
	got, err := parse("mail", "send", "", "--user", "", "--max-size", "-5")
	if want := (&send{To: []string{""}, TTL: 24 * time.Hour, Priority: "low", MaxSize: -5}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	home, err := os.UserHomeDir()
	if err != nil {
		t.Skip("no home directory")
	}
	got, err = parse("mail", "send", "a", "--user", "u", "--heads", "~/x")
	if s, ok := got.(*send); err != nil || !ok || s.Heads != filepath.Join(home, "x") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParse_Mistakes(t *testing.T) {
	for args, want := range map[string]string{
		"nonsense":                             "unexpected argument nonsense",
		"serve more":                           "unexpected argument more",
		"mail":                                 `expected one of "send", "find"`,
		"mail post":                            "unexpected argument post",
		"mail send --user u":                   `expected "<to>"`,
		"mail send a":                          "missing flags: --user",
		"mail send a --user":                   "--user: expected a value",
		"mail send a --user --secure":          "--user: expected a value",
		"mail send a --user u --nope=secret":   "unknown flag --nope",
		"mail send a --user u -x":              "unknown flag -x",
		"mail send a --user u --ttl soon":      `--ttl: expected a duration such as 90s or 24h, but got "soon"`,
		"mail send a --user u --max-size many": `--max-size: expected a number, but got "many"`,
		"mail send a --user u --secure=maybe":  `--secure: expected true or false, but got "maybe"`,
		"mail send a --user u --scope read,x":  `--scope: must be one of read, write, but got "x"`,
		"mail send a --user u --priority x":    `--priority: must be one of low, high, but got "x"`,
		"mail find":                            "missing flags: --id or --all",
		"mail find --id 1 --all":               "--id and --all cannot be used together",
		"mail find x y --all":                  "unexpected argument y",
	} {
		_, err := parse(strings.Fields(args)...)
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
}

func TestParse_Help(t *testing.T) {
	for args, want := range map[string]string{
		"--help": `Usage: prog <command> [flags]

A program.

Commands:
  serve      Serve.
  mail send  Send a message.
  mail find  Find a message.

Flags:
  -h, --help  Show this help.

Run "prog <command> --help" for the flags of a command.
`,
		"mail send x -h": `Usage: prog mail send <to> ... --user=USER [flags]

Send a message.

Arguments:
  <to> ...  Receivers.

Flags:
  -h, --help          Show this help.
      --user=USER     Sender.
      --ttl=24h       How long it is kept.
      --max-size=MAX-SIZE  Bytes.
`,
	} {
		_, err := parse(strings.Fields(args)...)
		var help cli.Help
		if !errors.As(err, &help) {
			t.Errorf("%s: %v", args, err)
			continue
		}
		for _, line := range strings.Split(want, "\n") {
			if !strings.Contains(strings.Join(strings.Fields(help.Text), " "), strings.Join(strings.Fields(line), " ")) {
				t.Errorf("%s: no line %q in\n%s", args, line, help.Text)
			}
		}
	}
}

// Fields that no value can be given for, and tags that mean nothing, are found by the
// first test that parses.
func TestParse_RefusesFields(t *testing.T) {
	for name, root := range map[string]any{
		"Map": &struct{ M map[string]string }{},
		"Tag": &struct {
			Verbose bool `short:"v" help:"More: \"all\" of it."`
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("it was accepted")
				}
			}()
			_, _ = cli.Parse("prog", "", root, nil)
		})
	}
}
