package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Reply receives what a provider's events say: it passes text on in complete
// characters, clean and within the limit of a reply, and decides at the end of
// the stream whether the reply is complete.
type Reply struct {
	Model string // as the server names it; "" when it does not

	provider string // whose state of reasoning comes, and of which model
	asked    string
	watchdog *Watchdog
	emit     func(chat.Delta)
	begun    bool
	bytes    int64                    // of text and reasoning
	text     bool                     // some text has come, not only reasoning
	left     int                      // code points that may still come
	partial  map[chat.PartKind]string // the bytes of a character whose rest has not come yet, of text and reasoning

	sources sourceSet
	states  int         // bytes of them
	held    []chat.Part // sources and states from before the reply has begun

	finish        string // in the words of ports.Answer; "": no reason to end has come
	failedFinish  error  // of a reason to end that is a failure
	unknownFinish error  // of a reason to end that is not listed
	textAfterEnd  bool   // text has come after a reason to end
	unsupported   string // something other than text that the reply holds
	unknownMember string // a member that may hold text
	usage         usageMeter
}

// NewReply returns the receiver of one reply. provider and model are those that
// were asked.
func NewReply(w *Watchdog, provider, model string, emit func(chat.Delta)) *Reply {
	return &Reply{watchdog: w, provider: provider, asked: model, emit: emit, left: w.limits.MaxReply, partial: map[chat.PartKind]string{}}
}

// Text passes a chunk of text on.
func (r *Reply) Text(s string) error { return r.pass(chat.TextPart, s) }

// Reasoning passes a chunk of reasoning on.
func (r *Reply) Reasoning(s string) error { return r.pass(chat.ReasoningPart, s) }

// Content passes content on, in its order.
func (r *Reply) Content(c Content) error {
	if c.Unsupported != "" {
		r.Unsupported(c.Unsupported)
	}
	for _, p := range c.Parts {
		if p.Kind == chat.SourcePart {
			r.Sources(p)
			continue
		}
		if err := r.pass(p.Kind, p.Text); err != nil {
			return err
		}
	}
	return nil
}

// Sources passes on those of the pages that can be shown and were not named yet.
func (r *Reply) Sources(pages ...chat.Part) {
	for _, p := range pages {
		if p, ok := r.sources.add(p); ok {
			r.watchdog.Begin()
			r.show(p)
		}
	}
}

// maxStates bounds the state of a reply's reasoning, in bytes.
const maxStates = 1 << 20

// State passes on what the provider wants back with the reasoning before, which
// must be printable ASCII. A reply does not fail without it.
func (r *Reply) State(state string) {
	r.states += len(state)
	if r.states > maxStates || strings.ContainsFunc(state, func(c rune) bool { return c < ' ' || c > '~' }) {
		return
	}
	r.show(chat.Part{Kind: chat.ReasoningPart, State: state, Provider: r.provider, Model: r.asked})
}

// show passes a whole part on. As long as no text or reasoning was shown, the
// part waits for it, because until then another provider may be asked instead.
func (r *Reply) show(p chat.Part) {
	if !r.begun {
		r.held = append(r.held, p)
		return
	}
	r.emit(chat.Delta{Part: p})
}

// begin records that something is shown, and passes on what has waited for it.
func (r *Reply) begin() {
	r.begun = true
	for _, p := range r.held {
		r.emit(chat.Delta{Part: p})
	}
	r.held = nil
}

// Begin records that the provider has begun to reply, even if nothing is shown yet.
func (r *Reply) Begin() { r.watchdog.Begin() }

// Begun reports whether some text has come, not only reasoning.
func (r *Reply) Begun() bool { return r.text }

// Finish records the provider's reason to end. More text may follow: some
// gateways give a reason with every chunk. The last reason counts, unless an
// earlier one was a failure.
func (r *Reply) Finish(reason string) {
	f, listed := finishOf(reason)
	switch {
	case !listed:
		r.unknownFinish = Fail(UnknownFinish, fmt.Errorf("finish reason %q", label(reason)))
		return // the stream may go on
	case f.none:
		return
	case f.failed != "":
		r.failedFinish = Fail(f.failed, errors.New("finish reason "+label(reason)))
	default:
		r.finish, r.unknownFinish = f.reason, nil
	}
	r.watchdog.Complete()
}

// Finished reports whether a reason to end has come.
func (r *Reply) Finished() bool {
	return r.finish != "" || r.failedFinish != nil || r.unknownFinish != nil
}

// Usage records the provider's report of the tokens used so far.
func (r *Reply) Usage(u UsageReport) { r.usage.report(u) }

// InputExcludesCache says that the provider counts cached tokens beside the input.
func (r *Reply) InputExcludesCache() { r.usage.inputExcludesCache = true }

// Unsupported records that the reply holds something that cannot be passed on,
// such as a tool call: it is not complete without that.
func (r *Reply) Unsupported(kind string) {
	if r.unsupported == "" {
		r.unsupported = kind
	}
}

// UnknownMember records a member that may hold text. A reply in which no text
// was found is then not taken for an empty one.
func (r *Reply) UnknownMember(name string) { r.unknownMember = name }

// pass passes a chunk of a text or reasoning part on.
func (r *Reply) pass(kind chat.PartKind, s string) error {
	if s == "" {
		return nil
	}
	r.watchdog.Begin()
	r.textAfterEnd = r.textAfterEnd || r.Finished()
	r.text = r.text || kind == chat.TextPart
	r.bytes += int64(len(s))
	s, r.partial[kind] = joinSurrogates(r.partial[kind] + s)
	s, _ = chat.CleanOutput(s)
	full := false
	if n := utf8.RuneCountInString(s); n > r.left {
		s, full = firstRunes(s, r.left), true
		r.left = 0
	} else {
		r.left -= n
	}
	if s != "" {
		r.begin()
		r.emit(chat.Delta{Part: chat.Part{Kind: kind, Text: s}})
	}
	if full {
		return Fail(ReplyTooLong, errors.New("reply too long"))
	}
	return nil
}

// end returns the fault of a reply whose stream has ended, or nil if the reply
// is complete. err is the error of decoding an event, if any; readErr that of
// reading the body.
func (r *Reply) end(ctx context.Context, err, readErr error, document bool) error {
	switch {
	case err != nil:
	case !r.Finished():
		if err = truncated(ctx, readErr); document && !r.begun {
			err = Fail(NotAStream, errors.New("a JSON document without a reply"))
		}
	case r.failedFinish != nil:
		err = r.failedFinish
	case r.unknownFinish != nil:
		err = r.unknownFinish
	case r.textAfterEnd && readErr != nil && ReasonOf(Ended(ctx)) != Idle:
		err = Broken(ctx, readErr) // the reason to end was not the end, and neither is this
	case r.unsupported != "":
		err = Fail(UnsupportedOutput, errors.New("the reply holds "+label(r.unsupported)))
	case !r.text && r.unknownMember != "" && (r.finish == "stop" || r.finish == "length"):
		err = Fail(UnsupportedOutput, errors.New("no text but a member "+label(r.unknownMember)))
	}
	if err == nil {
		r.begin()
	}
	return r.afterBegin(err)
}

// afterBegin turns AIUnavailable into AIFailed once the reply has begun to be
// shown: to try again later does not complete it.
func (r *Reply) afterBegin(err error) error {
	f := fault.As(err)
	if !r.begun || f == nil || f.Kind != fault.AIUnavailable {
		return err
	}
	return fault.Wrap(f.Cause, fault.AIFailed, failedMessage).With(reasonDetail, string(ReasonOf(err)))
}

// promptAllowance is the number of input tokens beyond those of the messages'
// text that a request can use: chat templates, and what a server adds to a prompt.
const promptAllowance = 32 << 10

// maxFileTokens bounds the input tokens of one file: no model takes more.
const maxFileTokens = 2 << 20

// maxOutputTokens bounds a reply whose request sets no bound, beyond its text:
// no model is known to reason for as long.
const maxOutputTokens = 256 << 10

// answer returns what is known of the reply. maxOutput is the request's bound
// of output tokens, 0 for none.
func (r *Reply) answer(p ports.Prompt, maxOutput int64, err error) (string, chat.Usage) {
	input := int64(promptAllowance + len(p.Params.System))
	for _, t := range p.Messages {
		input += 64
		for _, part := range t.Parts {
			if part.Kind == chat.FilePart {
				input += maxFileTokens
			}
			input += int64(len(part.Text))
		}
	}
	output := max(maxOutput, r.bytes) + 1024
	if maxOutput == 0 {
		output = r.bytes + maxOutputTokens
	}
	u := r.usage.usage(input, output)
	if u.Output == 0 && r.begun || err != nil {
		u.Estimated = true
	}
	if err != nil {
		return "", u
	}
	return r.finish, u
}

// firstRunes returns the first n code points of s.
func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// truncated returns the fault of a stream that ended without a reason to end,
// with the error of reading it, if any.
func truncated(ctx context.Context, err error) error {
	if err != nil {
		return Broken(ctx, err)
	}
	if ended := Ended(ctx); ended != nil {
		return ended
	}
	return Truncated()
}

// Truncated returns the fault of a stream that ended cleanly without a reason to end.
func Truncated() error {
	return Fail(Incomplete, errors.New("the stream ended without a terminal marker"))
}
