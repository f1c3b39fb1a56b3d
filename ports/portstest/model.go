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
// beginnings of the user's message, and the name that it has to be asked for:
//
//	!echo text   says the text, whole
//	!long 2000   says so many words, not all at once
//	!hang        never says a word
//	!fail        says a few words and breaks off
func Model(t *testing.T, open func(t *testing.T) (m ports.Model, params chat.Params)) {
	t.Run("Whole", func(t *testing.T) {
		l := listen(t, open, "!echo one two three — four 😀")
		a, err := l.ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := l.text(); got != "one two three — four 😀" {
			t.Errorf("said %q", got)
		}
		if a.Provider == "" || a.Model == "" || a.FinishReason != "stop" {
			t.Errorf("answer %+v", a)
		}
		if a.Usage.Estimated || a.Usage.Input == 0 || a.Usage.Output == 0 {
			t.Errorf("usage %+v", a.Usage)
		}
	})
	t.Run("PiecesAreSound", func(t *testing.T) {
		l := listen(t, open, "!echo 한국어 텍스트 🙂 and more")
		if _, err := l.ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, d := range l.deltas() {
			if d.Text == "" || !utf8.ValidString(d.Text) {
				t.Errorf("piece %q", d.Text)
			}
		}
	})
	t.Run("StopsWhenCancelled", func(t *testing.T) {
		l := listen(t, open, "!long 2000")
		ctx, cancel := context.WithCancel(t.Context())
		l.at(3, cancel)
		a, err := l.ask(ctx)
		if !fault.Is(err, fault.Canceled) || a.FinishReason != "" || a.Provider == "" {
			t.Errorf("answer %+v, error %v", a, err)
		}
		had := len(l.deltas())
		time.Sleep(50 * time.Millisecond)
		if now := len(l.deltas()); had < 3 || now != had {
			t.Errorf("%d pieces when it returned, %d later", had, now)
		}
	})
	t.Run("AsksNothingWhenCancelledBefore", func(t *testing.T) {
		l := listen(t, open, "!echo no")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.ask(ctx); !fault.Is(err, fault.Canceled) || len(l.deltas()) > 0 {
			t.Errorf("said %q, error %v", l.text(), err)
		}
	})
	t.Run("SilenceEndsAtTheDeadline", func(t *testing.T) {
		l := listen(t, open, "!hang")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		begun := time.Now()
		_, err := l.ask(ctx)
		if took := time.Since(begun); took > patience/2 || !fault.Is(err, fault.AIFailed) || len(l.deltas()) > 0 {
			t.Errorf("after %v: said %q, error %v", took, l.text(), err)
		}
	})
	t.Run("BreakIsNotAnEnd", func(t *testing.T) {
		l := listen(t, open, "!fail")
		a, err := l.ask(t.Context())
		reason := ""
		if f := fault.As(err); f != nil {
			reason, _ = f.Details["reason"].(string)
		}
		if !fault.Is(err, fault.AIFailed) || reason == "" || a.FinishReason != "" || l.text() == "" {
			t.Errorf("said %q, answer %+v, error %v", l.text(), a, err)
		}
	})
	t.Run("ErrorsKeepTheMessageToThemselves", func(t *testing.T) {
		l := listen(t, open, "!fail canary-7d1f")
		_, err := l.ask(t.Context())
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, fault.As(err)), "canary-7d1f") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("GoesOnWithAReply", func(t *testing.T) {
		l := listen(t, open, "!echo one two")
		l.prompt.Turns = append(l.prompt.Turns, ports.Turn{Role: chat.Assistant, Text: "one "})
		if a, err := l.ask(t.Context()); err != nil || a.FinishReason != "stop" {
			t.Errorf("answer %+v, error %v", a, err)
		}
	})
	t.Run("ServesManyAtOnce", func(t *testing.T) {
		m, params := open(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				want := fmt.Sprintf("reply number %d", i)
				l := &listener{model: m, prompt: question(params, "!echo "+want)}
				if _, err := l.ask(t.Context()); err != nil || l.text() != want {
					t.Errorf("%d: said %q, error %v", i, l.text(), err)
				}
			})
		}
		wg.Wait()
	})
}

// listener keeps what a model says.
type listener struct {
	model  ports.Model
	prompt ports.Prompt

	mu     sync.Mutex
	said   []chat.Delta
	notice int
	then   func()
}

func listen(t *testing.T, open func(*testing.T) (ports.Model, chat.Params), text string) *listener {
	t.Helper()
	m, params := open(t)
	return &listener{model: m, prompt: question(params, text)}
}

func question(params chat.Params, text string) ports.Prompt {
	return ports.Prompt{UserID: "user-1", RunID: "run-1", Params: params, Turns: []ports.Turn{{Role: chat.User, Text: text}}}
}

// at calls then when the nth piece arrives.
func (l *listener) at(n int, then func()) { l.notice, l.then = n, then }

func (l *listener) ask(ctx context.Context) (ports.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return l.model.Generate(ctx, l.prompt, func(d chat.Delta) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.said = append(l.said, d)
		if len(l.said) == l.notice {
			l.then()
		}
	})
}

func (l *listener) deltas() []chat.Delta {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]chat.Delta(nil), l.said...)
}

func (l *listener) text() string {
	var o chat.Output
	for _, d := range l.deltas() {
		o.Append(d)
	}
	return o.Text
}
