package boot

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestListener_AnswersEveryRefusedConnection: however many clients are refused
// and keep their connections open, with a request sent or not, each reads the
// whole answer.
func TestListener_AnswersEveryRefusedConnection(t *testing.T) {
	l, err := listen(t.Context(), "ADDR", "127.0.0.1:0", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close() // the one that is admitted keeps its place
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	dial()
	var refused []net.Conn
	for i := range 4 * maxRefused {
		c := dial()
		if i%2 == 1 {
			fmt.Fprint(c, "GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		refused = append(refused, c)
	}
	for i, c := range refused {
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("refused connection %d: %v", i+1, err)
		}
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" ||
			!json.Valid(raw) || !strings.Contains(string(raw), "OVERLOADED") {
			t.Fatalf("refused connection %d: %d %v %s, %v", i+1, resp.StatusCode, resp.Header, raw, err)
		}
	}
}
