package httpapi

import (
	"net"
	"sync"
	"syscall"
)

// departures learns, for all connections together, which of them their clients
// have closed. Its goroutine runs while there are connections. The zero value is
// ready.
type departures struct {
	mu    sync.Mutex
	gone  map[int64]func() // by the id that the kernel returns
	next  int64
	epoll int    // while running is true
	pipe  [2]int // wakes the goroutine when there is no connection any more
	runs  bool
}

// await calls gone, once, when the client has closed the connection. stop must
// be called before the connection is closed here.
func (d *departures) await(conn net.Conn, gone func()) (stop func()) {
	if raw := rawSocket(conn); raw != nil {
		if id, ok := d.add(raw, gone); ok {
			return func() { d.remove(id) }
		}
	}
	go awaitClose(conn, gone)
	return func() {}
}

func (d *departures) add(raw syscall.RawConn, gone func()) (id int64, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.runs && !d.start() {
		return 0, false
	}
	d.next++
	id = d.next
	d.gone[id] = gone
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.EpollCtl(d.epoll, syscall.EPOLL_CTL_ADD, int(fd), &syscall.EpollEvent{
			Events: syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR | epollOneShot, Fd: int32(id), Pad: int32(id >> 32),
		})
	})
	if err != nil || failed != nil {
		delete(d.gone, id)
		d.wakeIfEmpty()
		return 0, false
	}
	return id, true
}

// epollOneShot is syscall.EPOLLONESHOT.
const epollOneShot = 1 << 30

func (d *departures) remove(id int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.gone, id)
	d.wakeIfEmpty()
}

func (d *departures) wakeIfEmpty() {
	if d.runs && len(d.gone) == 0 {
		_, _ = syscall.Write(d.pipe[1], []byte{0})
	}
}

// start starts the goroutine. The departures are locked.
func (d *departures) start() bool {
	var err error
	if d.epoll, err = syscall.EpollCreate1(syscall.EPOLL_CLOEXEC); err != nil {
		return false
	}
	if err := syscall.Pipe2(d.pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		_ = syscall.Close(d.epoll)
		return false
	}
	wake := syscall.EpollEvent{Events: syscall.EPOLLIN} // id 0
	if err := syscall.EpollCtl(d.epoll, syscall.EPOLL_CTL_ADD, d.pipe[0], &wake); err != nil {
		d.close()
		return false
	}
	d.gone, d.runs = map[int64]func(){}, true
	go d.run(d.epoll)
	return true
}

func (d *departures) close() {
	for _, fd := range []int{d.epoll, d.pipe[0], d.pipe[1]} {
		_ = syscall.Close(fd)
	}
	d.runs = false
}

func (d *departures) run(epoll int) {
	events := make([]syscall.EpollEvent, 64)
	for {
		n, err := syscall.EpollWait(epoll, events, -1)
		if err != nil {
			n = 0 // a signal
		}
		left, more := d.collect(events[:n])
		for _, gone := range left {
			gone()
		}
		if !more {
			return
		}
	}
}

// collect returns what to call for the events. more is false when there is no
// connection any more.
func (d *departures) collect(events []syscall.EpollEvent) (left []func(), more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range events {
		id := int64(uint32(e.Fd)) | int64(e.Pad)<<32
		if id == 0 {
			var b [16]byte
			_, _ = syscall.Read(d.pipe[0], b[:])
		}
		if gone := d.gone[id]; gone != nil {
			left = append(left, gone)
			delete(d.gone, id)
		}
	}
	if len(d.gone) > 0 {
		return left, true
	}
	d.close()
	return left, false
}
