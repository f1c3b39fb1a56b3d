package boot

import (
	"context"
	"time"
)

// startTime is how long after the start of serve the pages are given back that
// only starting needed.
const startTime = time.Second

// releasePages gives the pages of the executable back to the kernel once the
// process has started: most of them hold initialisation, which has run, and they
// would count as resident until memory runs short. What is used again is mapped
// again from the page cache (docs/adr/0070).
func releasePages(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(startTime):
	}
	releaseExecutable()
	<-ctx.Done()
}
