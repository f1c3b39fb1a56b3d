package boot

import "parley/app/replies"

// wrapStore stands between the maker of replies and the store. It does nothing
// but in a build with the tag failpoints, which the crash harness makes.
var wrapStore = func(s replies.Store) replies.Store { return s }
