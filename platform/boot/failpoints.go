package boot

import "parley/app/replies"

// wrapStore wraps the store that replies use. It adds failpoints in builds with
// the tag failpoints, which the fault harness makes, and nothing in others.
var wrapStore = func(s replies.Store) replies.Store { return s }
