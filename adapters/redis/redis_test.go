package redis

import (
	"context"
	"strings"
	"testing"
	"time"

	"parley/platform/testing/testenv"
)

// TestPing_NoticesRefusedWrites: a Redis whose memory is full answers, and is of no use.
func TestPing_NoticesRefusedWrites(t *testing.T) {
	full := open(t, testenv.StartRedis(t, "--maxmemory", "1").URL(), Options{})
	testPing(t, full, func(err error) bool { return err != nil && strings.Contains(err.Error(), "OOM") })
	testPing(t, open(t, testenv.Redis(t), Options{}), func(err error) bool { return err == nil })
}

// testPing pings until the result is as expected: on a busy machine a ping may not
// answer in time.
func testPing(t *testing.T, c *Client, expected func(error) bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := c.Ping(context.Background())
		if expected(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("ping: %v", err)
		}
	}
}
