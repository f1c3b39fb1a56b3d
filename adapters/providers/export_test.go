package providers

import "time"

// ForgetLookups lets the next call ask servers for their models at once.
func ForgetLookups(r *Router) {
	for _, p := range r.providers {
		p.models.lookup <- struct{}{}
		p.models.asked = time.Time{}
		<-p.models.lookup
	}
}
