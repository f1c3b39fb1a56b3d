package boot_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestServe_FewFileDescriptors: with a low limit of open files, clients beyond
// it get a 503 with Retry-After, it is logged, and open streams go on.
func TestServe_FewFileDescriptors(t *testing.T) {
	t.Parallel()
	i := startBy(t, func(args []string) *exec.Cmd {
		return exec.Command("sh", append([]string{"-c", `ulimit -n 256; exec "$0" "$@"`}, args...)...)
	}, "DATA_DIR="+t.TempDir(), "LOG_FORMAT=json", "LOG_LEVEL=warn")

	var held []net.Conn
	dial := func(request string) net.Conn {
		c, err := net.Dial("tcp", strings.TrimPrefix(i.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, request)
		return c
	}
	release := func() {
		for _, c := range held {
			c.Close()
		}
		held = nil
	}
	defer release()
	refused := false
	for deadline := time.Now().Add(time.Minute); !refused && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		release()       // this process has a limit of open files, too
		for range 150 { // clients that do not finish their requests
			dial("GET /api/health HTTP/1.1\r\n")
		}
		for range 20 {
			resp, err := http.ReadResponse(bufio.NewReader(dial("GET /api/health HTTP/1.1\r\nHost: x\r\n\r\n")), nil)
			if err != nil {
				continue // closed without an answer: too many are being refused
			}
			raw, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != http.StatusServiceUnavailable {
				continue
			}
			refused = true
			if resp.Header.Get("Retry-After") == "" || !json.Valid(raw) || !strings.Contains(string(raw), "OVERLOADED") {
				t.Errorf("refused with %v %s", resp.Header, raw)
			}
		}
	}
	if !refused {
		t.Fatal("nobody was refused with 503")
	}
	if a := call(t, "GET", i.admin+"/readyz", ""); a.status != http.StatusOK {
		t.Errorf("/readyz: %d %s", a.status, a.body)
	}
	eventually(t, "the refusals are in the log", func() bool { return strings.Contains(i.out.String(), "too many connections") })
	for _, c := range held {
		c.Close()
	}
	eventually(t, "places are free again", func() bool {
		resp, err := http.Get(i.url + "/api/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// TestServe_OutlivesTheReaderOfItsLog: the program that reads standard error and output
// goes away, and the server lives on; what could not be logged is counted.
func TestServe_OutlivesTheReaderOfItsLog(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			read, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			i := startBy(t, func(args []string) *exec.Cmd {
				cmd := exec.Command(args[0], args[1:]...)
				cmd.Stdout, cmd.Stderr = write, write
				go func() { _, _ = io.Copy(io.Discard, io.LimitReader(read, 64)); read.Close() }()
				return cmd
			}, "DATA_DIR="+t.TempDir(), "LOG_FORMAT="+format)
			write.Close()
			for range 20 {
				if a := call(t, "GET", i.url+"/api/chat/conversations", ""); a.status != http.StatusUnauthorized {
					t.Fatalf("%d %s", a.status, a.body)
				}
			}
			eventually(t, "losses are counted", func() bool {
				_, rest, _ := strings.Cut(call(t, "GET", i.admin+"/metrics", "").body, `chat_telemetry_dropped_total{signal="logs"} `)
				return rest != "" && !strings.HasPrefix(rest, "0")
			})
			if code := i.terminate(); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}
