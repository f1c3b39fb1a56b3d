package chat

import (
	"unicode/utf8"

	"parley/domain/fault"
)

// MaxReason is the longest reason of a feedback, in code points.
const MaxReason = 2_000

// Rating is a user's verdict on a reply. The values are stored.
type Rating string

const (
	Up   Rating = "up"
	Down Rating = "down"
)

// Feedback is a user's rating of a reply, with an optional reason.
type Feedback struct {
	Rating Rating
	Reason string
}

// Validate refuses an unknown rating, and a reason that is too long or that a
// message could not have as text.
func (f Feedback) Validate() error {
	switch {
	case f.Rating != Up && f.Rating != Down:
		return fault.New(fault.Invalid, "rating must be up or down")
	case utf8.RuneCountInString(f.Reason) > MaxReason:
		return fault.New(fault.Invalid, "The reason cannot exceed %d characters", MaxReason)
	}
	return ValidateText(f.Reason)
}
