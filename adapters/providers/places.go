package providers

import "sync"

// places bounds how many replies one provider makes at once, and shares them
// between users: a user gets another place only while more places are free than
// the user holds. One user alone can hold half of them, two a third each, and
// one who holds none is admitted as long as any is free.
type places struct {
	limit int

	mu     sync.Mutex
	taken  int
	byUser map[string]int
}

func newPlaces(limit int) *places { return &places{limit: limit, byUser: map[string]int{}} }

// acquire takes a place for a user; false when there is none for them. Each
// place must be given back with release.
func (p *places) acquire(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.admits(user) {
		return false
	}
	p.taken++
	p.byUser[user]++
	return true
}

// free reports whether acquire would succeed now.
func (p *places) free(user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.admits(user)
}

func (p *places) admits(user string) bool { return p.byUser[user] < p.limit-p.taken }

func (p *places) release(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	if p.byUser[user]--; p.byUser[user] <= 0 {
		delete(p.byUser, user)
	}
}

// inUse counts the places that are taken.
func (p *places) inUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.taken
}
