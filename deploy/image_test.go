package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"parley/platform/testing/testenv"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// image is what a Dockerfile says, as far as ours says it.
type image struct {
	build []string   // shell commands of the first stage
	copy  [][]string // from the first stage: owner, source, target
	env   []string
	user  string
	entry string
	check string
	base  string
}

func parseDockerfile(t *testing.T) image {
	t.Helper()
	var img image
	scan := bufio.NewScanner(strings.NewReader(read(t, "docker/Dockerfile", nil)))
	for scan.Scan() {
		word, rest, _ := strings.Cut(scan.Text(), " ")
		fields := strings.Fields(rest)
		switch word {
		case "FROM":
			img.base = fields[0]
		case "RUN":
			img.build = append(img.build, rest)
		case "COPY":
			if from := "--from=build"; fields[0] == from {
				owner := ""
				if o, ok := strings.CutPrefix(fields[1], "--chown="); ok {
					owner, fields = o, fields[1:]
				}
				img.copy = append(img.copy, []string{owner, fields[1], fields[2]})
			}
		case "ENV":
			img.env = append(img.env, fields...)
		case "USER":
			img.user = rest
		case "ENTRYPOINT":
			img.entry = rest
		case "HEALTHCHECK":
			img.check = rest
		}
	}
	return img
}

// out is /out of the first stage, made once for all tests.
var out string

func TestMain(m *testing.M) {
	var err error
	if out, err = os.MkdirTemp("", "parley-image-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(out)
	os.Exit(code)
}

var building sync.Once

// build runs the commands of the first stage in this checkout, as docker build
// would in its copy.
func build(t *testing.T, img image) {
	t.Helper()
	building.Do(func() {
		for _, command := range img.build {
			if strings.HasPrefix(command, "go mod download") {
				continue // they are here, or this test would not run
			}
			cmd := exec.Command("sh", "-ec", strings.ReplaceAll(command, "/out/", out+"/"))
			cmd.Dir = ".."
			cmd.Env = append(os.Environ(), "VERSION=image-test")
			if b, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", command, err, b)
			}
		}
	})
}

// assemble copies what was built into an empty root, as the second stage does.
func assemble(t *testing.T, img image) (root string) {
	t.Helper()
	build(t, img)
	root = filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range img.copy {
		source := strings.Replace(c[1], "/out/", out+"/", 1)
		copyTree(t, source, filepath.Join(root, c[2]), c[0] != "")
	}
	return root
}

func copyTree(t *testing.T, source, target string, owned bool) {
	t.Helper()
	err := filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(source, path)
		if err != nil {
			return err
		}
		to := filepath.Join(target, rel)
		if d.IsDir() {
			if err := os.MkdirAll(to, 0o755); err != nil {
				return err
			}
			if owned && os.Geteuid() == 0 {
				return os.Chown(to, 65532, 65532)
			}
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, content, info.Mode())
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The image holds one static program, certificates and nothing else, and
// serves as a user without a name.
func TestImage(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the image")
	}
	img := parseDockerfile(t)
	if img.base != "scratch" || img.user != "65532:65532" || img.entry != `["/parley"]` || !strings.HasSuffix(img.check, `CMD ["/parley", "healthcheck"]`) {
		t.Fatalf("the image is %+v", img)
	}
	root := assemble(t, img)

	program, err := elf.Open(filepath.Join(root, "parley"))
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	if libs, err := program.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("the program needs %v, %v", libs, err)
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the program needs a loader")
		}
	}

	var held []string
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(root, path)
			held = append(held, rel)
		}
		return err
	})
	if want := []string{"etc/ssl/certs/ca-certificates.crt", "parley"}; err != nil || !slices.Equal(held, want) {
		t.Errorf("the image holds %v, want %v (%v)", held, want, err)
	}
	if out := inside(t, root, img, "version").run(t); !strings.Contains(out, "image-test") {
		t.Errorf("version says %q", out)
	}

	serve := inside(t, root, img, "serve", "AUTH_SECRET=a-secret-of-the-image-test-0123456789")
	var log bytes.Buffer
	serve.Stdout, serve.Stderr = &log, &log
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- serve.Wait() }()
	defer func() { serve.Process.Kill() }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		check := inside(t, root, img, "healthcheck")
		check.Env = serve.Env
		if out, err := check.CombinedOutput(); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("healthcheck: %v %s\n%s", err, out, &log)
		}
	}
	serve.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the end: %v\n%s", err, &log)
		}
	case <-time.After(30 * time.Second):
		t.Errorf("does not end\n%s", &log)
	}
}

type command struct{ *exec.Cmd }

// inside runs the image's program as its user, in its root where we may
// (a container is more, but not for a static program).
func inside(t *testing.T, root string, img image, args ...string) command {
	t.Helper()
	// Set by the image, but for ports that are free here.
	env := []string{}
	for _, e := range img.env {
		if !strings.HasPrefix(e, "ADDR=") && !strings.HasPrefix(e, "ADMIN_ADDR=") && !strings.HasPrefix(e, "DATA_DIR=") {
			env = append(env, e)
		}
	}
	var words []string
	for _, a := range args {
		if setting.MatchString(a) {
			env = append(env, a)
		} else {
			words = append(words, a)
		}
	}
	env = append(env, "ADDR="+testenv.FreeAddr(), "ADMIN_ADDR="+testenv.FreeAddr())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	var cmd *exec.Cmd
	if os.Geteuid() == 0 {
		cmd = exec.CommandContext(ctx, "/parley", words...)
		cmd.Dir = "/"
		cmd.Env = append(env, "DATA_DIR=/data")
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	} else {
		cmd = exec.CommandContext(ctx, filepath.Join(root, "parley"), words...)
		cmd.Env = append(env, "DATA_DIR="+filepath.Join(root, "data"))
	}
	return command{cmd}
}

var setting = regexp.MustCompile(`^[A-Z_]+=`)

func (c command) run(t *testing.T) string {
	t.Helper()
	out, err := c.CombinedOutput()
	if err != nil {
		t.Errorf("%v: %v\n%s", c.Args, err, out)
	}
	return string(out)
}
