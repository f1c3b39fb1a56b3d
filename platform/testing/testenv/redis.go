package testenv

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// redisConn speaks as much of Redis' protocol as this package needs. A client
// library would take longer to link into every test program than all the rest.
type redisConn struct {
	net.Conn
	in *bufio.Reader
}

// dialRedis connects to database 0 of the server of a URL: redis:// or rediss://,
// with a user and a password, if any.
func dialRedis(ctx context.Context, raw string) (redisConn, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return redisConn{}, errors.New("not a URL") // the parser's error quotes it
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "6379")
	}
	dial := (&net.Dialer{}).DialContext
	if u.Scheme == "rediss" {
		dial = (&tls.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return redisConn{}, err
	}
	c := redisConn{conn, bufio.NewReader(conn)}
	if deadline, ok := ctx.Deadline(); ok {
		err = c.SetDeadline(deadline)
	}
	if password, ok := u.User.Password(); ok && err == nil {
		auth := []string{"AUTH", u.User.Username(), password}
		if auth[1] == "" {
			auth = []string{"AUTH", password}
		}
		_, err = c.do(auth...)
	}
	if err != nil {
		conn.Close()
		return redisConn{}, err
	}
	return c, nil
}

// do sends a command and returns the strings of its answer. A number is one, nothing
// is none.
func (c redisConn) do(args ...string) ([]string, error) {
	var command strings.Builder
	fmt.Fprintf(&command, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&command, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := io.WriteString(c, command.String()); err != nil {
		return nil, err
	}
	return c.answer()
}

func (c redisConn) answer() ([]string, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 {
		return nil, fmt.Errorf("redis: answered %q", line)
	}
	kind, rest := line[0], strings.TrimSuffix(line[1:], "\r\n")
	switch kind {
	case '+', ':':
		return []string{rest}, nil
	case '-':
		return nil, errors.New("redis: " + rest)
	}
	n, err := strconv.Atoi(rest)
	if err != nil || kind != '$' && kind != '*' {
		return nil, fmt.Errorf("redis: answered %q", line)
	}
	if kind == '$' && n >= 0 {
		text := make([]byte, n+2)
		_, err := io.ReadFull(c.in, text)
		return []string{string(text[:n])}, err
	}
	var all []string
	for range n {
		some, err := c.answer()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// redisReady returns nil once this very server answers: another one may listen on the
// port, so it is asked where its files are.
func redisReady(ctx context.Context, s *Server) error {
	c, err := dialRedis(ctx, s.url)
	if err != nil {
		return err
	}
	defer c.Close()
	dir, err := c.do("CONFIG", "GET", "dir")
	if err != nil {
		return err
	}
	if len(dir) != 2 {
		return fmt.Errorf("redis: its dir is %q", dir)
	}
	return ownedByUs(s, dir[1])
}

// claimRedis takes one of the databases 1 to 15 of a shared server. The claim is a key
// in database 0, which expires in case the holder dies.
func claimRedis(ctx context.Context, server string) (database string, release func() error, err error) {
	c, err := dialRedis(ctx, server)
	if err != nil {
		return "", nil, err
	}
	defer c.Close()
	for {
		for n := 1; n <= 15; n++ {
			database, key := strconv.Itoa(n), "parley:testenv:"+strconv.Itoa(n)
			claimed, err := c.do("SET", key, "", "NX", "EX", "900")
			if err != nil {
				return "", nil, err
			}
			if len(claimed) == 0 {
				continue
			}
			for _, command := range [][]string{{"SELECT", database}, {"FLUSHDB"}} {
				if _, err := c.do(command...); err != nil {
					return "", nil, err
				}
			}
			return database, func() error { return releaseRedis(server, key) }, nil
		}
		select { // all are taken: other tests are at work
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return "", nil, fmt.Errorf("all databases are taken: %w", ctx.Err())
		}
	}
}

func releaseRedis(server, key string) error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	c, err := dialRedis(ctx, server)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.do("DEL", key)
	return err
}
