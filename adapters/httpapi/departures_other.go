//go:build !linux

package httpapi

import "net"

// departures learns which connections their clients have closed.
type departures struct{}

// await calls gone, once, when the client has closed the connection. stop must
// be called before the connection is closed here.
func (*departures) await(conn net.Conn, gone func()) (stop func()) {
	go awaitClose(conn, gone)
	return func() {}
}
