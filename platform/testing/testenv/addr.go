package testenv

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// The ports that FreeAddr gives out. A system takes those of outgoing connections and of
// listeners on port 0 from above them: Linux from 32768 on, macOS from 49152.
const firstPort, ports = 20000, 12000

var given struct {
	sync.Mutex
	file *os.File // its byte n is locked by the process that has the port firstPort + n
	next int
}

// FreeAddr returns an address of the loopback interface that nothing listens on, for a
// server that is started later, or again. No outgoing connection takes its port, and
// no other caller of this user gets it while this process lives.
func FreeAddr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort())) }

// freePort is FreeAddr's port. It panics when there is none.
func freePort() int {
	given.Lock()
	defer given.Unlock()
	if given.file == nil {
		file, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("parley-testenv-ports-%d.lock", os.Getuid())), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			panic(fmt.Sprintf("testenv: find a free port: %v", err))
		}
		given.file, given.next = file, rand.IntN(ports)
	}
	for range ports {
		n := given.next
		given.next = (n + 1) % ports
		lock := syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart, Start: int64(n), Len: 1}
		if syscall.FcntlFlock(given.file.Fd(), syscall.F_SETLK, &lock) != nil {
			continue // another process has it
		}
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(firstPort+n))); err == nil {
			l.Close()
			return firstPort + n
		}
	}
	panic(fmt.Sprintf("testenv: no port from %d to %d is free", firstPort, firstPort+ports-1))
}
