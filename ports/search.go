package ports

import (
	"context"

	"parley/domain/chat"
)

// Search finds messages and titles.
type Search interface {
	// Search returns at most limit hits among a user's messages and titles, without
	// those of temporary conversations: messages that have every word of the text,
	// whatever their case, width and accents. A word is found within longer ones.
	// Titles come first. Of the messages, the newest 200 that match are ranked and
	// come next, then the 200 before them, and so on. after is the cursor of an
	// earlier result for the same text; next is nil when there are no more hits.
	// What is written later is not among the further hits of a search.
	Search(ctx context.Context, user, text string, after *SearchCursor, limit int) (hits []chat.SearchHit, next *SearchCursor, err error)
}

// SearchCursor is a position among the hits of a search.
type SearchCursor struct {
	// Titles: the position is among the titles; else among the messages that are
	// ranked together: those before Begin and not before End. Zero: from the newest
	// on, and to the oldest.
	Titles     bool
	Begin, End Position
	// Score and Last are of the last hit. A zero Last is before the first one.
	Score int
	Last  Position
}

// SearchIndex keeps the index that makes searches of users with many messages fast.
// What is not in it yet is found as well.
type SearchIndex interface {
	// SearchDue yields users whose index may lack something.
	SearchDue() <-chan string
	// DirtySearch lists at most n users of whom messages were deleted whose words are
	// still in the index.
	DirtySearch(ctx context.Context, n int) (users []string, err error)
	// IndexSome does one step for the index of a user. more is false when there is
	// nothing left to do.
	IndexSome(ctx context.Context, user string) (more bool, err error)
}
