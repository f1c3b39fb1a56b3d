package redis

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"parley/domain/access"
)

const (
	// maxCallers bounds how many callers are remembered. What was decided
	// locally for further ones is not sent to Redis.
	maxCallers = 100_000
	// maxSettlements bounds what waits for one caller: as many as the script
	// keeps tickets, so that sending them again counts none twice.
	maxSettlements = 60
)

// ticket identifies one request for a caller's count in Redis.
type ticket [4]byte

func newTicket() (t ticket) {
	_, _ = rand.Read(t[:]) // never fails
	return t
}

// settlement tells Redis how a request was decided without it.
type settlement struct {
	ticket  ticket
	at      time.Time
	admit   bool
	count   int  // requests that it stands for
	sent    bool // may be known to Redis: it must not change any more
	decided bool // its command was sent too: it stands for that one request
}

func encodeSettlements(list []settlement) string {
	out := make([]byte, 0, 8*len(list))
	for _, s := range list {
		verb := byte('-')
		if s.admit {
			verb = '+'
		}
		age := min(time.Since(s.at)/time.Second, 255)
		out = append(out, s.ticket[:]...)
		out = append(out, byte(age), verb)
		out = binary.BigEndian.AppendUint16(out, uint16(min(s.count, 1<<16-1)))
	}
	return string(out)
}

// callers is what an instance knows of the callers of the last minute or two.
type callers struct {
	mu sync.Mutex
	// Two generations of a minute each: a caller that is not asked for during
	// the whole of one is dropped with it.
	young, old map[string]*caller
	turned     time.Time
	owed       map[string]bool // callers with something to settle
}

type caller struct {
	total     int       // requests of the window, when Redis last answered
	at        time.Time // and when that was
	since     int       // admitted locally after that
	unsettled []settlement
}

func newCallers() callers {
	return callers{young: map[string]*caller{}, old: map[string]*caller{}, turned: time.Now(), owed: map[string]bool{}}
}

// caller returns nil when there are too many.
func (c *callers) caller(key string) *caller {
	if now := time.Now(); now.Sub(c.turned) > access.Window {
		for key := range c.old {
			delete(c.owed, key)
		}
		c.old, c.young, c.turned = c.young, map[string]*caller{}, now
	}
	if found := c.young[key]; found != nil {
		return found
	}
	found := c.old[key]
	switch {
	case found != nil:
		delete(c.old, key)
	case len(c.young)+len(c.old) >= maxCallers:
		return nil
	default:
		found = &caller{}
	}
	c.young[key] = found
	return found
}

// counted notes what Redis has counted for a caller.
func (c *callers) counted(key string, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.caller(key)
	if known == nil {
		return
	}
	known.total, known.at, known.since = total, time.Now(), 0
	for _, s := range known.unsettled { // decided meanwhile
		if s.admit {
			known.since += s.count
		}
	}
}

// exhausted returns how long this instance admits nothing more, because it has
// admitted its part of what was left when Redis last answered; 0 if it has not.
func (c *callers) exhausted(key string, n, instances int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.caller(key)
	if known == nil {
		return 0
	}
	wait := access.Window - time.Since(known.at)
	if known.at.IsZero() || wait <= 0 {
		return 0
	}
	left := (n - known.total) / instances
	if n < instances {
		left = min(n-known.total, 1)
	}
	if known.since < left {
		return 0
	}
	return wait
}

// admitted notes a request that was admitted locally; sent says that its
// command may have been carried out.
func (c *callers) admitted(key string, t ticket, sent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.caller(key)
	if known == nil {
		return
	}
	known.since++
	now := time.Now()
	if last := len(known.unsettled) - 1; !sent && last >= 0 {
		if s := &known.unsettled[last]; s.admit && !s.sent && !s.decided && now.Sub(s.at) < time.Second {
			s.count++
			return
		}
	}
	c.add(key, known, settlement{ticket: t, at: now, admit: true, count: 1, decided: sent})
}

// refused notes a request that was refused locally although its command may
// have been carried out.
func (c *callers) refused(key string, t ticket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.caller(key); known != nil {
		c.add(key, known, settlement{ticket: t, at: time.Now(), count: 1, decided: true})
	}
}

func (c *callers) add(key string, known *caller, s settlement) {
	if len(known.unsettled) >= maxSettlements {
		known.unsettled = known.unsettled[1:]
	}
	known.unsettled = append(known.unsettled, s)
	c.owed[key] = true
}

// unsettled returns what Redis has not confirmed, and marks it as sent.
func (c *callers) unsettled(key string) []settlement {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.owed[key] {
		return nil
	}
	known := c.caller(key)
	if known == nil {
		return nil
	}
	for i := range known.unsettled {
		known.unsettled[i].sent = true
	}
	return append([]settlement(nil), known.unsettled...)
}

// settled removes what Redis has confirmed.
func (c *callers) settled(key string, confirmed []settlement) {
	if len(confirmed) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.caller(key)
	if known == nil {
		return
	}
	done := make(map[ticket]bool, len(confirmed))
	for _, s := range confirmed {
		done[s.ticket] = true
	}
	left := known.unsettled[:0]
	for _, s := range known.unsettled {
		if !done[s.ticket] {
			left = append(left, s)
		}
	}
	known.unsettled = left
	if len(left) == 0 {
		delete(c.owed, key)
	}
}

// owing returns up to n callers with something to settle.
func (c *callers) owing(n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]string, 0, min(n, len(c.owed)))
	for key := range c.owed {
		if len(keys) == n {
			break
		}
		keys = append(keys, key)
	}
	return keys
}
