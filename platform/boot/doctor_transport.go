package boot

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"parley/platform/config"
)

// shortestStream is how long a stream must take for its arrival to say anything.
const shortestStream = time.Second

// transport reads a reply as a stream and reports what a proxy has done to it: whether
// its events came one by one, and whether it was complete.
func (r *examination) transport(ctx context.Context, base, token, conversation string, demo bool) {
	content := "Count from 1 to 60 in words."
	if demo {
		content = "!slow 3s" // the demo provider then takes as long
	}
	body, _ := json.Marshal(map[string]any{"content": content, "conversationId": conversation, "maxTokens": 512})
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/chat/stream", bytes.NewReader(body))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", "gzip") // what browsers accept
	req.Header.Set("Authorization", "Bearer "+token)
	begun := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fail("api.transport", "raise the proxy's timeouts for responses above 60 s", "the stream was cut before its first byte: %v", config.WithoutURL(err))
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		r.must(false, "a reply can be streamed", "status %d", resp.StatusCode)
		return
	}
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" {
		r.Fail("api.transport", "switch compression off for text/event-stream in the proxy", "the stream is compressed (%s), which delays its events", encoding)
		return
	}
	arrivals, started, ended, failure := readStream(resp)
	took := time.Since(begun)
	switch {
	case failure != nil:
		r.Fail("api.transport", "raise the proxy's timeouts for responses above 60 s (proxy_read_timeout, timeout server)", "the stream was cut after %s: %v", took.Round(time.Millisecond), config.WithoutURL(failure))
	case !ended:
		r.Fail("api.transport", "raise the proxy's timeouts for responses above 60 s (proxy_read_timeout, timeout server)", "the stream ended after %s without its last event", took.Round(time.Millisecond))
	case took >= shortestStream && len(arrivals) > 1 && arrivals[0].Sub(begun) > took*3/4:
		r.Fail("api.transport", "switch response buffering off in the proxy (proxy_buffering off)", "the first event came after %s of %s: the proxy buffers streams", arrivals[0].Sub(begun).Round(time.Millisecond), took.Round(time.Millisecond))
	default:
		r.OK("api.transport", "%d pieces, the first after %s of %s", len(arrivals), arrivals[0].Sub(begun).Round(time.Millisecond), took.Round(time.Millisecond))
	}
	if failure == nil && ended {
		r.must(started, "a reply can be streamed", "it has no start event")
	}
}

// readStream reads the events of a response. arrivals are the times of its lines.
func readStream(resp *http.Response) (arrivals []time.Time, started, ended bool, err error) {
	lines := bufio.NewReader(resp.Body)
	for {
		line, err := lines.ReadString('\n')
		if strings.HasPrefix(line, "data:") {
			arrivals = append(arrivals, time.Now())
			started = started || strings.Contains(line, `"type":"start"`)
			ended = ended || strings.Contains(line, `"type":"end"`) || strings.Contains(line, `"type":"error"`)
		}
		switch {
		case err == nil:
			continue
		case ended, err.Error() == "EOF":
			return append(arrivals, time.Now()), started, ended, nil
		}
		return append(arrivals, time.Now()), started, ended, err
	}
}
