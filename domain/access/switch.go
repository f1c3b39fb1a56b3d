package access

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"parley/domain/fault"
)

// Disabled is what an operator has disabled while the service runs: chat as a
// whole, or one provider.
type Disabled struct {
	Provider string // "": chat as a whole
	Reason   string // for operators; users never see it
	Since    time.Time
}

// MaxSwitchReason is the most characters that the reason for disabling may have.
const MaxSwitchReason = 500

// ValidateSwitchReason refuses, as Invalid, a reason that is empty, too long or
// more than one line of text.
func ValidateSwitchReason(reason string) error {
	switch {
	case strings.TrimSpace(reason) == "":
		return fault.New(fault.Invalid, "A reason is required")
	case utf8.RuneCountInString(reason) > MaxSwitchReason:
		return fault.New(fault.Invalid, "A reason has at most %d characters", MaxSwitchReason)
	case !utf8.ValidString(reason), strings.ContainsFunc(reason, unicode.IsControl):
		return fault.New(fault.Invalid, "A reason must be one line of text")
	}
	return nil
}
