package testenv

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// supervisorScript makes the server's files, then starts it each time it reads a
// port. When its standard input ends, as it does even if this process is
// killed, it stops the server and removes the files. A paused server is resumed
// first, so that it can handle the signal.
const supervisorScript = `
dir=$1 signal=$2 prepare=$3; shift 3
eval "$prepare" >>"$dir/log" 2>&1
pid=
while read -r port; do
	[ -z "$pid" ] || wait "$pid" 2>/dev/null
	"$@" "$port" >>"$dir/log" 2>&1 &
	pid=$!
	echo "$pid"
done
if [ -n "$pid" ]; then
	kill -s "$signal" "$pid" 2>/dev/null
	kill -s CONT "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
fi
rm -rf "$dir"
`

// supervisor is a shell process between this process and a server. It runs as the server's
// unprivileged user, in a session of its own, so that ^C reaches only this process.
type supervisor struct {
	cmd  *exec.Cmd
	in   *os.File // what keeps it waiting
	out  *bufio.Reader
	once *sync.Once
}

// newSupervisor starts a supervisor for the server in dir. prepare is shell; command
// wants the port as its last argument.
func newSupervisor(dir, stopSignal, prepare string, command []string) (supervisor, error) {
	cmd := exec.Command("/bin/sh",
		append([]string{"-c", supervisorScript, "supervisor", dir, stopSignal, prepare}, command...)...)
	cmd.Dir = dir
	cmd.SysProcAttr = unprivileged()
	cmd.SysProcAttr.Setsid = true
	// Files rather than cmd.StdinPipe: exec then needs no goroutine, which a
	// leak check would find.
	stdin, in, err := os.Pipe()
	if err != nil {
		return supervisor{}, err
	}
	defer stdin.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		in.Close()
		return supervisor{}, err
	}
	defer stdout.Close()
	cmd.Stdin, cmd.Stdout = stdin, stdout
	if err := cmd.Start(); err != nil {
		in.Close()
		out.Close()
		return supervisor{}, fmt.Errorf("start supervisor: %w", err)
	}
	return supervisor{cmd: cmd, in: in, out: bufio.NewReader(out), once: new(sync.Once)}, nil
}

func (k supervisor) start(port int) (pid int, err error) {
	if _, err := fmt.Fprintln(k.in, port); err != nil {
		return 0, fmt.Errorf("supervisor: %w", err)
	}
	line, err := k.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("supervisor: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(line))
}

func (k supervisor) close() {
	k.once.Do(func() {
		k.in.Close()
		k.cmd.Wait()
	})
}

// unprivileged makes root's children run as nobody: Postgres refuses root.
func unprivileged() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{}
	if os.Geteuid() == 0 {
		attr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
	return attr
}

const nobody = 65534

// makeDir makes a directory owned by the user that runs the servers, below parent.
func makeDir(parent string) (string, error) {
	dir, err := os.MkdirTemp(parent, "parley-testenv-")
	if err != nil || os.Geteuid() != 0 {
		return dir, err
	}
	return dir, os.Chown(dir, nobody, nobody)
}

// onDisk returns the directory for temporary files, "" if it is the usual one.
func onDisk() string {
	if os.Geteuid() == 0 {
		return "/tmp" // root's own TMPDIR may be closed to others
	}
	return ""
}

// inMemory returns a directory in memory if there is plenty of it, or else onDisk. A
// database is some hundred files: a disk takes ten times as long to make and delete them.
func inMemory() string {
	const dir, plenty = "/dev/shm", 4 << 30
	var shm syscall.Statfs_t
	if syscall.Statfs(dir, &shm) != nil || float64(shm.Bavail)*float64(shm.Bsize) < plenty || availableMemory() < plenty {
		return onDisk()
	}
	return dir
}

// availableMemory returns how many bytes programs may still take, 0 if the system does
// not tell as Linux does.
func availableMemory() (bytes int64) {
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if kB, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			bytes, _ = strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(kB), " kB"), 10, 64)
		}
	}
	return bytes << 10
}

// family lists a process and its descendants, parents before children.
func descendants(pid int) []int {
	children := map[int][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range entries {
		if p, parent, _, err := stat(path); err == nil {
			children[parent] = append(children[parent], p)
		}
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// alive reports whether a process runs; one that is dead but not yet waited
// for does not.
func alive(pid int) bool {
	_, _, state, err := stat(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && state != "Z" && state != "X"
}

func stat(path string) (pid, parent int, state string, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, "", err
	}
	// pid (name) state ppid ...; the name may hold anything, parentheses too.
	head, _, found := strings.Cut(string(b), " ")
	end := strings.LastIndex(string(b), ")")
	fields := strings.Fields(string(b)[end+1:])
	if !found || len(fields) < 2 {
		return 0, 0, "", errors.New("not a stat line")
	}
	pid, _ = strconv.Atoi(head)
	parent, _ = strconv.Atoi(fields[1])
	return pid, parent, fields[0], nil
}
