package ops

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// AdminURL returns the URL of the admin address as it is reached from the same host.
func AdminURL(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}

// Get requests a path of the admin address at url and writes the response. Any status
// but 200 is an error after the body is written.
func Get(ctx context.Context, url, path string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/"+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the admin address: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// redisFacts are the lines of INFO that matter when Redis fails or is slow.
var redisFacts = []string{"redis_version", "uptime_in_seconds", "connected_clients", "used_memory_human", "maxmemory_human",
	"maxmemory_policy", "evicted_keys", "rejected_connections", "loading", "role", "instantaneous_ops_per_sec"}

// CheckRedis pings Redis five times and writes how long each took, whether Redis
// accepts a write, and what it says of itself.
func CheckRedis(ctx context.Context, url string, w io.Writer) error {
	if url == "" {
		return errors.New("REDIS_URL is not set: limits and live replies are kept in process")
	}
	opt, err := redis.ParseURL(url)
	if err != nil {
		return errors.New("REDIS_URL is not a URL of Redis") // its error repeats the password
	}
	opt.MaxRetries, opt.DialTimeout, opt.ReadTimeout = -1, 2*time.Second, 2*time.Second
	client := redis.NewClient(opt)
	defer client.Close()
	for range 5 {
		begun := time.Now()
		if err := client.Ping(ctx).Err(); err != nil {
			fmt.Fprintf(w, "ping failed after %s: %v\n", time.Since(begun).Round(time.Millisecond), err)
			return errors.New("no answer from Redis")
		}
		fmt.Fprintf(w, "ping answered after %s\n", time.Since(begun).Round(10*time.Microsecond))
	}
	var refused error
	if err := client.Set(ctx, "parley:admin-probe", 1, time.Second).Err(); err != nil {
		fmt.Fprintf(w, "a write was refused: %v\n", err)
		refused = errors.New("no writes are accepted by Redis")
	}
	info, err := client.Info(ctx).Result()
	if err != nil {
		return err
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		for _, fact := range redisFacts {
			if name == fact {
				fmt.Fprintf(w, "%-26s %s\n", name, value)
			}
		}
	}
	return refused
}
