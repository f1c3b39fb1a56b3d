// Command release makes what a release consists of: an archive for each platform,
// a bill of materials of each program, the chart, checksums, a statement of
// provenance, and the release's part of the changelog. The same commit makes the
// same bytes, wherever and whenever it is built.
//
//	go run ./deploy/release -version v1.2.3 -out bin/release
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

func main() {
	version := flag.String("version", "", "version of the release, such as v1.2.3; without, that of git describe")
	out := flag.String("out", "bin/release", "directory to write to; it is made anew")
	targets := flag.String("targets", "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64", "platforms")
	flag.Parse()
	if err := run(*version, *out, strings.Split(*targets, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// release is what is known before anything is built.
type release struct {
	root     string    // of the repository
	out      string    // directory of the files
	version  string    // v1.2.3
	revision string    // of the commit
	time     time.Time // of the commit: of every file
	tool     string    // go1.26.0
}

func run(version, out string, targets []string) error {
	r, err := describe(version, out)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o750); err != nil {
		return err
	}
	if err := r.writeNotes(); err != nil {
		return err
	}
	if err := r.writeChart(); err != nil {
		return err
	}
	for _, target := range targets {
		if err := r.writePlatform(target); err != nil {
			return fmt.Errorf("%s: %w", target, err)
		}
	}
	return r.writeSums(targets)
}

// describe asks git and go what is to be released.
func describe(version, out string) (r release, err error) {
	ask := func(name string, args ...string) string {
		if err != nil {
			return ""
		}
		cmd := exec.CommandContext(context.Background(), name, args...)
		cmd.Stderr = os.Stderr
		var answer []byte
		if answer, err = cmd.Output(); err != nil {
			err = fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
		}
		return string(bytes.TrimSpace(answer))
	}
	r.root = ask("git", "rev-parse", "--show-toplevel")
	r.version = cmp.Or(version, ask("git", "describe", "--tags", "--always", "--dirty"))
	r.revision = ask("git", "rev-parse", "HEAD")
	seconds := ask("git", "log", "-1", "--format=%ct")
	r.tool = ask("go", "env", "GOVERSION")
	if err != nil {
		return r, err
	}
	n, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return r, fmt.Errorf("time of the commit: %w", err)
	}
	r.time = time.Unix(n, 0).UTC()
	r.out, err = filepath.Abs(out)
	return r, err
}

// name is what the files of a platform begin with.
func (r release) name(target string) string {
	return "parley-" + strings.TrimPrefix(r.version, "v") + "-" + strings.ReplaceAll(target, "/", "-")
}

// flags are those that every build of a release has. Without buildvcs the program
// depends on the files alone: the revision is told by ldflags.
func (r release) flags() []string {
	return []string{"-trimpath", "-buildvcs=false", "-tags=grpcnotrace,disable_grpc_modules",
		"-ldflags=-s -w -buildid= -X parley/platform/boot.Version=" + r.version + " -X parley/platform/boot.Revision=" + r.revision}
}

// build compiles the program for a platform.
func (r release) build(target, path string) error {
	system, processor, ok := strings.Cut(target, "/")
	if !ok {
		return fmt.Errorf("a platform is SYSTEM/PROCESSOR, not %q", target)
	}
	cmd := exec.CommandContext(context.Background(), "go", append(append([]string{"build"}, r.flags()...), "-o", path, ".")...) //nolint:gosec // of our own flags
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOOS="+system, "GOARCH="+processor, "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "GOFIPS140=off")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// writePlatform writes the archive and the bill of materials of a platform.
func (r release) writePlatform(target string) error {
	dir, err := os.MkdirTemp("", "parley-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "parley")
	if err := r.build(target, program); err != nil {
		return err
	}
	bill, err := billOf(program, r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.out, r.name(target)+".cdx.json"), bill, 0o600); err != nil {
		return err
	}
	files, err := r.archiveFiles(program)
	if err != nil {
		return err
	}
	return writeArchive(filepath.Join(r.out, r.name(target)+".tar.gz"), r.name(target), files, r.time)
}
