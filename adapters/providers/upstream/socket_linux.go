package upstream

import "syscall"

// wakeAt sets how many bytes must have come for the kernel to report a socket as
// readable. The end of the stream is always reported. A socket that refuses is
// as before.
func wakeAt(socket syscall.RawConn, bytes int) {
	_ = socket.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, bytes)
	})
}
