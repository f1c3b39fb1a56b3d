package portstest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Model is the contract of ports.Model. open returns a model that obeys these
// prefixes of the user's message, and the parameters that select it:
//
//	!echo text   replies with the text
//	!long 2000   replies with that many words, in several chunks
//	!hang        never replies
//	!fail        replies with a few words and then fails
func Model(t *testing.T, open func(t *testing.T) (m ports.Model, params chat.Params)) {
	t.Run("CompleteReply", func(t *testing.T) {
		l := record(t, open, "!echo one two three — four 😀")
		a, err := l.generate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := l.text(); got != "one two three — four 😀" {
			t.Errorf("replied %q", got)
		}
		if a.Provider == "" || a.Model == "" || a.FinishReason != "stop" {
			t.Errorf("answer %+v", a)
		}
		if a.Usage.Estimated || a.Usage.Input == 0 || a.Usage.Output == 0 {
			t.Errorf("usage %+v", a.Usage)
		}
	})
	t.Run("ChunksAreValidText", func(t *testing.T) {
		l := record(t, open, "!echo 한국어 텍스트 🙂 and more")
		if _, err := l.generate(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, d := range l.deltas() {
			if d.Text == "" || !utf8.ValidString(d.Text) {
				t.Errorf("chunk %q", d.Text)
			}
		}
	})
	t.Run("StopsWhenCancelled", func(t *testing.T) {
		l := record(t, open, "!long 2000")
		ctx, cancel := context.WithCancel(t.Context())
		l.at(3, cancel)
		a, err := l.generate(ctx)
		if !fault.Is(err, fault.Canceled) || a.FinishReason != "" || a.Provider == "" {
			t.Errorf("answer %+v, error %v", a, err)
		}
		had := len(l.deltas())
		time.Sleep(50 * time.Millisecond)
		if now := len(l.deltas()); had < 3 || now != had {
			t.Errorf("%d chunks when it returned, %d later", had, now)
		}
	})
	t.Run("CancelledBeforeTheCall", func(t *testing.T) {
		l := record(t, open, "!echo no")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.generate(ctx); !fault.Is(err, fault.Canceled) || len(l.deltas()) > 0 {
			t.Errorf("replied %q, error %v", l.text(), err)
		}
	})
	t.Run("HangEndsAtTheDeadline", func(t *testing.T) {
		l := record(t, open, "!hang")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := l.generate(ctx)
		if took := time.Since(begun); took > waitTimeout/2 || !fault.Is(err, fault.AIFailed) || len(l.deltas()) > 0 {
			t.Errorf("after %v: replied %q, error %v", took, l.text(), err)
		}
	})
	t.Run("FailureIsNotCompletion", func(t *testing.T) {
		l := record(t, open, "!fail")
		a, err := l.generate(t.Context())
		reason := ""
		if f := fault.As(err); f != nil {
			reason, _ = f.Details["reason"].(string)
		}
		if !fault.Is(err, fault.AIFailed) || reason == "" || a.FinishReason != "" || l.text() == "" {
			t.Errorf("replied %q, answer %+v, error %v", l.text(), a, err)
		}
	})
	t.Run("ErrorsHoldNoMessageText", func(t *testing.T) {
		l := record(t, open, "!fail canary-7d1f")
		_, err := l.generate(t.Context())
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, fault.As(err)), "canary-7d1f") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("ContinuesAReply", func(t *testing.T) {
		l := record(t, open, "!echo one two")
		l.prompt.Messages = append(l.prompt.Messages, ports.PromptText(chat.Assistant, "one "))
		if a, err := l.generate(t.Context()); err != nil || a.FinishReason != "stop" {
			t.Errorf("answer %+v, error %v", a, err)
		}
	})
	t.Run("TextFile", func(t *testing.T) {
		l := record(t, open, "!echo one two")
		l.attach(func(context.Context, string, string) ([]byte, error) { return []byte("a file"), nil })
		if a, err := l.generate(t.Context()); err != nil || a.FinishReason != "stop" || l.text() == "" {
			t.Errorf("replied %q, answer %+v, error %v", l.text(), a, err)
		}
	})
	t.Run("FileIsGone", func(t *testing.T) {
		l := record(t, open, "!echo one two")
		l.attach(func(context.Context, string, string) ([]byte, error) { return nil, chat.FileNotFound() })
		if a, err := l.generate(t.Context()); err != nil || a.FinishReason != "stop" || l.text() == "" {
			t.Errorf("replied %q, answer %+v, error %v", l.text(), a, err)
		}
	})
	t.Run("FilesAreUnavailable", func(t *testing.T) {
		l := record(t, open, "!echo one two")
		l.attach(func(context.Context, string, string) ([]byte, error) {
			return nil, fault.New(fault.Unavailable, "The files are unavailable")
		})
		if _, err := l.generate(t.Context()); !fault.Is(err, fault.AIUnavailable) || len(l.deltas()) > 0 {
			t.Errorf("replied %q, error %v", l.text(), err)
		}
	})
	t.Run("ConcurrentCalls", func(t *testing.T) {
		m, params := open(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				want := fmt.Sprintf("reply number %d", i)
				l := &recording{model: m, prompt: promptFor(params, "!echo "+want)}
				if _, err := l.generate(t.Context()); err != nil || l.text() != want {
					t.Errorf("%d: replied %q, error %v", i, l.text(), err)
				}
			})
		}
		wg.Wait()
	})
}

// recording is a call of a model and the deltas that it emitted.
type recording struct {
	model  ports.Model
	prompt ports.Prompt

	mu      sync.Mutex
	emitted []chat.Delta
	notice  int
	then    func()
}

func record(t *testing.T, open func(*testing.T) (ports.Model, chat.Params), text string) *recording {
	t.Helper()
	m, params := open(t)
	return &recording{model: m, prompt: promptFor(params, text)}
}

func promptFor(params chat.Params, text string) ports.Prompt {
	return ports.Prompt{UserID: "user-1", RunID: "run-1", Params: params, Messages: []ports.PromptMessage{ports.PromptText(chat.User, text)}}
}

// attach adds a text file to the prompt.
func (l *recording) attach(read ports.ReadFile) {
	last := &l.prompt.Messages[len(l.prompt.Messages)-1]
	last.Parts = append(last.Parts, chat.Part{Kind: chat.FilePart, ID: "file-1", Name: "notes.txt", MediaType: "text/plain", Size: 6})
	l.prompt.ReadFile = read
}

// at calls then when the nth delta arrives.
func (l *recording) at(n int, then func()) { l.notice, l.then = n, then }

func (l *recording) generate(ctx context.Context) (ports.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, waitTimeout)
	defer cancel()
	return l.model.Generate(ctx, l.prompt, func(d chat.Delta) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.emitted = append(l.emitted, d)
		if len(l.emitted) == l.notice {
			l.then()
		}
	})
}

func (l *recording) deltas() []chat.Delta {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]chat.Delta(nil), l.emitted...)
}

func (l *recording) text() string {
	var o chat.OutputLog
	for _, d := range l.deltas() {
		o.Append(d)
	}
	return o.Output().Text()
}
