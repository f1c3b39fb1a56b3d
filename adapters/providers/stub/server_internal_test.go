package stub

import (
	"net"
	"testing"
)

// A server that is killed when it has just been started refuses connections too.
func TestServer_KilledAtOnce(t *testing.T) {
	for range 200 {
		s, err := Start(nil)
		if err != nil {
			t.Fatal(err)
		}
		s.Kill()
		if conn, err := net.Dial("tcp", s.addr); err == nil {
			conn.Close()
			t.Fatal("a connection was accepted")
		}
	}
}
