// Package webhooks delivers events to the operator's receiver over HTTP, signed
// as Standard Webhooks (https://www.standardwebhooks.com) says.
package webhooks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"parley/domain/webhook"
	"parley/ports"
)

// Options configure a receiver. URL and Keys are required.
type Options struct {
	URL  string
	Keys []webhook.Key // each signs; the receiver needs one of them
	// Private permits a URL whose host is a name to resolve to an address that is
	// not a public one. A host that is such an address itself, or localhost, is
	// permitted without.
	Private   bool
	Timeout   time.Duration // of one attempt; default 10 s
	UserAgent string
	Now       ports.Clock // default time.Now
}

// maxAnswer is how much of an answer is read. What is in it does not matter; a
// connection whose answer has been read can be used again.
const maxAnswer = 16 << 10

// Receiver is the receiver of webhooks. It is safe for concurrent use.
type Receiver struct {
	opt    Options
	dialer *net.Dialer
	client *http.Client
}

var _ ports.WebhookReceiver = (*Receiver)(nil)

// errAddress says that a name resolves to an address that is not permitted.
var errAddress = errors.New("the receiver's name resolves to an address that is not public")

// New returns the receiver at opt.URL. It does not connect.
func New(opt Options) (*Receiver, error) {
	u, err := url.Parse(opt.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the receiver's URL must begin with http:// or https://")
	}
	if len(opt.Keys) == 0 {
		return nil, errors.New("a receiver needs a secret to verify deliveries with")
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 10 * time.Second
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	dialer := &net.Dialer{Timeout: opt.Timeout}
	if !opt.Private && !namesItself(u.Hostname()) {
		dialer.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error { return permit(address) }
	}
	return &Receiver{opt, dialer, &http.Client{
		// No proxy of the environment: only what is configured is connected to.
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: opt.Timeout,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// namesItself reports whether a host is an address, or the name of this machine:
// then it is the operator who has chosen the address, not a name server.
func namesItself(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil || strings.EqualFold(host, "localhost")
}

// permit refuses addresses that are not public.
func permit(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := at.Addr().Unmap()
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || shared.Contains(ip) || nat64.Contains(ip) {
		return errAddress
	}
	return nil
}

var (
	shared = netip.MustParsePrefix("100.64.0.0/10") // of providers and clouds
	nat64  = netip.MustParsePrefix("64:ff9b::/96")  // holds any IPv4 address
)

// Deliver sends an event once.
func (r *Receiver) Deliver(ctx context.Context, e webhook.Event) webhook.Answer {
	ctx, cancel := context.WithTimeout(ctx, r.opt.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.opt.URL, strings.NewReader(e.Body))
	if err != nil {
		return webhook.Answer{Failure: webhook.FailureConnect}
	}
	at := r.opt.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", r.opt.UserAgent)
	req.Header.Set("webhook-id", e.ID)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("webhook-signature", webhook.Sign(r.opt.Keys, e.ID, at, e.Body))
	resp, err := r.client.Do(req)
	switch {
	case errors.Is(err, errAddress):
		return webhook.Answer{Failure: webhook.FailureAddress}
	case err != nil && (ctx.Err() != nil || isTimeout(err)):
		return webhook.Answer{Failure: webhook.FailureTimeout}
	case err != nil:
		return webhook.Answer{Failure: webhook.FailureConnect}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer) // the status has decided
	return webhook.Classify(resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), at))
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// retryAfter reads a number of seconds or a date; what is neither is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// String names the receiver without what its URL may hold of secrets.
func (r *Receiver) String() string {
	u, _ := url.Parse(r.opt.URL) // New has parsed it
	return fmt.Sprintf("%s://%s", u.Scheme, u.Host)
}
