package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// content is a user's message of about 600 bytes.
var content = strings.Repeat("How do I keep a sourdough starter alive while I am away? ", 10)

// answer is what a server answered.
type answer struct {
	status     int
	retryAfter string
	body       []byte // valid until the next request of the caller
}

// caller sends one request after another on a connection of its own. It costs the
// machine a small part of what net/http's client does, since it shares the cores
// with what it measures.
type caller struct {
	addr   string // host:port
	token  string
	conn   net.Conn
	reader *bufio.Reader
	out    []byte
	in     []byte
}

// caller is of user-(i mod users). Of several instances, each gets its share.
func (s *server) caller(i int) *caller {
	c := &caller{addr: s.addr, token: s.tokens[i%len(s.tokens)]}
	if n := i % (1 + len(s.peers)); n > 0 {
		c.addr = s.peers[n-1].addr
	}
	return c
}

func (c *caller) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// callTimeout bounds one request.
const callTimeout = 60 * time.Second

func (c *caller) get(path string) (answer, error) { return c.do("GET", path, "", nil) }

// post sends JSON. key is the idempotency key, "" for none.
func (c *caller) post(path, key string, body []byte) (answer, error) {
	return c.do("POST", path, key, body)
}

func (c *caller) do(method, path, key string, body []byte) (a answer, err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.addr, callTimeout); err != nil {
			return answer{}, err
		}
		c.reader = bufio.NewReaderSize(c.conn, 64<<10)
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	c.out = appendRequest(c.out[:0], method, path, c.token, key, body)
	if err := c.conn.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return answer{}, err
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return answer{}, err
	}
	return c.read()
}

func appendRequest(out []byte, method, path, token, key string, body []byte) []byte {
	out = fmt.Appendf(out, "%s %s HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer %s\r\n", method, path, token)
	if key != "" {
		out = fmt.Appendf(out, "Idempotency-Key: %s\r\n", key)
	}
	if body != nil {
		out = fmt.Appendf(out, "Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	return append(append(out, "\r\n"...), body...)
}

// read reads a response with a known length or in chunks.
func (c *caller) read() (a answer, err error) {
	length, closing := -1, false
	for first := true; ; first = false {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return a, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first {
			if len(line) < 12 {
				return a, fmt.Errorf("answered %q", line)
			}
			if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return a, err
			}
			continue
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(": "))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return a, err
			}
		case bytes.EqualFold(name, []byte("Retry-After")):
			a.retryAfter = string(value)
		case bytes.EqualFold(name, []byte("Connection")):
			closing = bytes.EqualFold(value, []byte("close"))
		}
	}
	c.in = c.in[:0]
	if length >= 0 {
		err = c.fill(length)
	} else {
		err = c.fillChunks()
	}
	if closing {
		c.close()
	}
	a.body = c.in
	return a, err
}

// fill appends so many bytes of the response.
func (c *caller) fill(n int) error {
	at := len(c.in)
	if need := at + n; need > cap(c.in) {
		c.in = append(make([]byte, 0, max(need, 2*cap(c.in))), c.in...)
	}
	c.in = c.in[:at+n]
	_, err := io.ReadFull(c.reader, c.in[at:])
	return err
}

func (c *caller) fillChunks() error {
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimRight(line, "\r\n")), 16, 32)
		if err != nil {
			return err
		}
		if err := c.fill(int(n)); err != nil {
			return err
		}
		if _, err := c.reader.Discard(2); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}

// createConversation makes a conversation and returns its id.
func (c *caller) createConversation() (string, error) {
	a, err := c.post("/api/chat/conversations", "", []byte("{}"))
	if err != nil {
		return "", err
	}
	if a.status == http.StatusServiceUnavailable {
		return "", errBusy
	}
	var made struct{ ID string }
	if err := json.Unmarshal(a.body, &made); err != nil || made.ID == "" {
		return "", fmt.Errorf("create a conversation: status %d: %s", a.status, a.body)
	}
	return made.ID, nil
}

// errBusy is a refusal that asks to come again.
var errBusy = errors.New("status 503")

// jsonContent is content as JSON.
var jsonContent, _ = json.Marshal(content)

// turn sends a message and waits for the reply.
func (c *caller) turn(conversation, key string) error {
	body := fmt.Appendf(make([]byte, 0, 1024), `{"content":%s,"conversationId":%q}`, jsonContent, conversation)
	a, err := c.post("/api/chat/messages", key, body)
	switch {
	case err != nil:
		return err
	case a.status == http.StatusServiceUnavailable:
		return errBusy
	case a.status != http.StatusCreated:
		return fmt.Errorf("POST /api/chat/messages: status %d: %s", a.status, a.body)
	case len(a.body) < 2*len(content) || !bytes.Contains(a.body, []byte(`"assistantMessage"`)):
		return fmt.Errorf("POST /api/chat/messages: no reply: %s", a.body)
	}
	return nil
}

// stream sends a message and gives each data line of the reply's events to on,
// until the reply ends or on returns false.
func (c *caller) stream(ctx context.Context, text string, on func(data string) bool) error {
	body, err := json.Marshal(map[string]string{"content": text})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.addr+"/api/chat/stream", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := streamClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		raw, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("POST /api/chat/stream: status %d: %s", resp.StatusCode, raw)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if !on(data) {
			return nil
		}
		if strings.Contains(data, `"type":"end"`) {
			if !strings.Contains(data, `"completed"`) {
				return fmt.Errorf("a reply ended: %s", data)
			}
			return nil
		}
	}
	return errors.Join(errors.New("a stream ended early"), lines.Err())
}

var streamClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true}}
