package boot_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestServe_FewFileDescriptors: with a low limit of open files, clients beyond
// it get a 503 with Retry-After, it is logged, and open streams go on.
func TestServe_FewFileDescriptors(t *testing.T) {
	t.Parallel()
	env := []string{"DATA_DIR=" + dataDir(t), "LOG_FORMAT=json", "LOG_LEVEL=warn", "MAX_STREAMS=0"}
	i := startBy(t, func(args []string) *exec.Cmd {
		return exec.Command("sh", append([]string{"-c", `ulimit -n 256; exec "$0" "$@"`}, args...)...)
	}, env...)
	auth := bearer(t, env, "alice")

	// request makes a request on a connection of its own.
	request := func(method, path, body string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), method, i.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		name, value, _ := strings.Cut(auth, ": ")
		req.Header.Set(name, value)
		req.Header.Set("Content-Type", "application/json")
		resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	var streams []*http.Response
	for {
		resp := request("GET", "/api/chat/live", "")
		if resp.StatusCode == http.StatusOK {
			if streams = append(streams, resp); len(streams) > 256 {
				t.Fatal("more streams than files")
			}
			continue
		}
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" ||
			!json.Valid(raw) || !strings.Contains(string(raw), "OVERLOADED") {
			t.Fatalf("refused with %d %v %s, %v", resp.StatusCode, resp.Header, raw, err)
		}
		break
	}
	for range 20 { // every further one
		if resp := request("GET", "/api/health", ""); resp.StatusCode != http.StatusServiceUnavailable {
			t.Fatalf("answered with %d while all places are taken", resp.StatusCode)
		}
	}
	if a := call(t, "GET", i.admin+"/readyz", ""); a.status != http.StatusOK {
		t.Errorf("/readyz: %d %s", a.status, a.body)
	}
	eventually(t, "the refusals are in the log", func() bool { return strings.Contains(i.out.String(), "too many connections") })

	streams[0].Body.Close()
	eventually(t, "a place is free again", func() bool {
		return request("POST", "/api/chat/messages", message("!echo hello")).StatusCode == http.StatusCreated
	})
	for _, stream := range streams[1:] {
		changed := false
		events(t, stream.Body, func(e map[string]any) bool { changed = e["type"] == "changed"; return changed })
		if !changed {
			t.Fatal("a stream ended before it showed the reply")
		}
	}
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
			}, "DATA_DIR="+dataDir(t), "LOG_FORMAT="+format)
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
