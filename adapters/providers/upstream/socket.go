package upstream

import (
	"crypto/tls"
	"net"
	"syscall"
)

// quietBytes is how much a provider may send during a pause before it wakes up
// the process, although nobody reads yet.
const quietBytes = 16 << 10

// rawSocket is the socket of a connection, or nil.
func rawSocket(conn net.Conn) syscall.RawConn {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	sys, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
