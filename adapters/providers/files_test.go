package providers

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// promptShown writes down what a provider is given: text as it is, files as
// <content>.
func promptShown(ctx context.Context, p ports.Prompt) string {
	messages, err := upstream.Messages(ctx, p)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for i, m := range messages {
		if i > 0 {
			b.WriteString(" / ")
		}
		for j, block := range m.Blocks {
			if j > 0 {
				b.WriteString(" ")
			}
			if block.Kind == upstream.OtherFile {
				b.WriteString(strings.ReplaceAll(block.Text, "\n\n", " "))
			} else {
				b.WriteString("<" + string(block.Data[:min(len(block.Data), 20)]) + ">")
			}
		}
	}
	return b.String()
}

// library holds files, and counts how often each is read.
type library struct {
	mu    sync.Mutex
	files map[string]string
	reads map[string]int
	err   error
}

func (l *library) read(_ context.Context, user, id string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reads == nil {
		l.reads = map[string]int{}
	}
	l.reads[user+" "+id]++
	data, ok := l.files[id]
	switch {
	case l.err != nil:
		return nil, l.err
	case !ok:
		return nil, chat.FileNotFound()
	}
	return []byte(data), nil
}

func filePart(id string, size int64) chat.Part {
	mediaType := map[string]string{"png": "image/png", "pdf": "application/pdf", "txt": "text/plain", "zip": "application/zip"}[id[len(id)-3:]]
	return chat.Part{Kind: chat.FilePart, ID: id, Name: id, MediaType: mediaType, Size: size}
}

// withFiles is the user's message of a text and files of 10 bytes.
func withFiles(text string, ids ...string) ports.PromptMessage {
	m := ports.PromptText(chat.User, text)
	for _, id := range ids {
		m.Parts = append(m.Parts, filePart(id, 10))
	}
	return m
}

func newLibrary() *library {
	return &library{files: map[string]string{"a.png": "picture a", "b.png": "picture b", "c.pdf": "paper c", "d.txt": "text d"}}
}

var (
	all  = Files{Images: true, PDF: true}
	done = ports.PromptText(chat.Assistant, "done")
)

func TestRouter_Files(t *testing.T) {
	refused, bad, long, broken := fail(upstream.FileRefused), fail(upstream.BadRequest), fail(upstream.TooLong), fail(upstream.ServerError)
	for name, c := range map[string]struct {
		messages []ports.PromptMessage
		params   chat.Params
		a, b     Files
		outcomes []outcome // of a; b always says "b"
		wantA    []string
		wantB    []string
		reason   upstream.Reason
	}{
		"AreGiven": {messages: []ports.PromptMessage{withFiles("x", "a.png", "c.pdf", "d.txt")}, a: all,
			outcomes: []outcome{say("a")}, wantA: []string{"x <picture a> <paper c> <text d>"}},
		"ReadAgainForARetry": {messages: []ports.PromptMessage{withFiles("x", "a.png")}, a: all,
			outcomes: []outcome{broken, say("a")}, wantA: []string{"x <picture a>", "x <picture a>"}},
		"ReadAgainForAFallback": {messages: []ports.PromptMessage{withFiles("x", "a.png")}, a: all, b: all,
			outcomes: []outcome{broken}, wantA: []string{"x <picture a>", "x <picture a>"}, wantB: []string{"x <picture a>"}},
		"Gone": {messages: []ports.PromptMessage{withFiles("x", "lost.png")}, a: all,
			outcomes: []outcome{say("a")}, wantA: []string{"x [file lost.png is not available any more]"}},
		"EarlierUnreadable": {messages: []ports.PromptMessage{withFiles("x", "a.png", "d.txt"), done, withFiles("y")},
			outcomes: []outcome{say("a")}, wantA: []string{"x [file a.png cannot be read by this model] <text d> / done / y"}},
		"CannotTakeThemIsPassedOver": {messages: []ports.PromptMessage{withFiles("x", "a.png")}, a: all, b: Files{PDF: true},
			outcomes: []outcome{broken}, wantA: []string{"x <picture a>", "x <picture a>"}, reason: upstream.ServerError},
		"FirstCannotTakeThem": {messages: []ports.PromptMessage{withFiles("x", "a.png")}, b: all,
			outcomes: []outcome{say("a")}, wantB: []string{"x <picture a>"}},
		"NamedCannotTakeThem": {messages: []ports.PromptMessage{withFiles("x", "a.png")}, b: all, params: chat.Params{Provider: "a"},
			outcomes: []outcome{say("a")}, wantA: []string{"x [file a.png cannot be read by this model]"}},
		"NoneCanTakeThem": {messages: []ports.PromptMessage{withFiles("x", "a.png")},
			outcomes: []outcome{say("a")}, wantA: []string{"x [file a.png cannot be read by this model]"}},
		"NotesForTheFallback": {messages: []ports.PromptMessage{withFiles("x", "a.png"), done, withFiles("y")}, a: all,
			outcomes: []outcome{broken}, wantA: []string{"x <picture a> / done / y", "x <picture a> / done / y"},
			wantB: []string{"x [file a.png cannot be read by this model] / done / y"}},
		"RefusedOnce": {messages: []ports.PromptMessage{withFiles("x", "a.png")}, a: all,
			outcomes: []outcome{refused}, wantA: []string{"x <picture a>"}, reason: upstream.FileRefused},
		"RefusedGoesToTheNext": {messages: []ports.PromptMessage{withFiles("x", "a.png")}, a: all, b: all,
			outcomes: []outcome{refused}, wantA: []string{"x <picture a>"}, wantB: []string{"x <picture a>"}},
		"EarlierRefused": {messages: []ports.PromptMessage{withFiles("x", "a.png"), done, withFiles("y", "b.png")}, a: all,
			outcomes: []outcome{refused, say("a")}, wantA: []string{"x <picture a> / done / y <picture b>",
				"x [file a.png was left out: the model did not take it] / done / y <picture b>"}},
		"EarlierTooLong": {messages: []ports.PromptMessage{withFiles("x", "c.pdf"), done, withFiles("y")}, a: all,
			outcomes: []outcome{long, say("a")}, wantA: []string{"x <paper c> / done / y", "x [file c.pdf was left out: the model did not take it] / done / y"}},
		"EarlierNotAllowed": {messages: []ports.PromptMessage{withFiles("x", "a.png"), done, withFiles("y")}, a: all,
			outcomes: []outcome{bad, bad}, wantA: []string{"x <picture a> / done / y", "x [file a.png was left out: the model did not take it] / done / y"}, reason: upstream.BadRequest},
		"WithoutFilesOnce": {messages: []ports.PromptMessage{withFiles("x"), done, withFiles("y")}, a: all,
			outcomes: []outcome{bad}, wantA: []string{"x / done / y"}, reason: upstream.BadRequest},
		"TheSameTwice": {messages: []ports.PromptMessage{withFiles("x", "a.png"), done, withFiles("y", "a.png")}, a: all,
			outcomes: []outcome{refused}, wantA: []string{"x <picture a> / done / y <picture a>"}, reason: upstream.FileRefused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, b := &scripted{name: "a", outcomes: c.outcomes, files: c.a}, &scripted{name: "b", outcomes: []outcome{say("b")}, files: c.b}
				providers := []*scripted{a, b}
				if c.wantB == nil && c.params.Provider == "" && name != "NoneCanTakeThem" && name != "CannotTakeThemIsPassedOver" {
					providers = providers[:1]
				}
				r := routerOf(nil, providers...)
				files := newLibrary()
				got := askFor(t.Context(), r, ports.Prompt{UserID: "u", Params: c.params, Messages: c.messages, ReadFile: files.read})
				if upstream.ReasonOf(got.err) != c.reason {
					t.Error(got.err)
				}
				if d := cmp.Diff(c.wantA, a.prompts); d != "" {
					t.Error("a:", d)
				}
				if d := cmp.Diff(c.wantB, b.prompts); d != "" {
					t.Error("b:", d)
				}
				for id, n := range files.reads {
					if n > 1 || !strings.HasPrefix(id, "u ") {
						t.Errorf("%s was read %d times", id, n)
					}
				}
				if !r.held.TryAcquire(maxHeldFiles) {
					t.Error("memory for files is not given back")
				}
			})
		})
	}
}

func TestRouter_FilesUnavailable(t *testing.T) {
	a := &scripted{name: "a", outcomes: []outcome{say("a")}, files: all}
	r := routerOf(nil, a)
	files := newLibrary()
	files.err = fault.New(fault.Unavailable, "The store is away")
	got := askFor(t.Context(), r, ports.Prompt{UserID: "u", Messages: []ports.PromptMessage{withFiles("x", "a.png")}, ReadFile: files.read})
	f := fault.As(got.err)
	if f == nil || f.Kind != fault.AIUnavailable || upstream.ReasonOf(got.err) != upstream.FilesUnavailable || f.RetryAfter == 0 ||
		!strings.Contains(f.Message, "files") || a.calls > 0 {
		t.Errorf("%v after %d calls", got.err, a.calls)
	}
	if u := got.answer.Usage; u != (chat.Usage{}) || got.answer.CostMicros != nil {
		t.Errorf("%+v", got.answer)
	}
	files.err = nil
	if got := askFor(t.Context(), r, ports.Prompt{UserID: "u", Messages: []ports.PromptMessage{withFiles("x", "a.png")}, ReadFile: files.read}); got.err != nil {
		t.Error(got.err)
	}
}

func TestRouter_FilesAreBounded(t *testing.T) {
	big := ports.PromptMessage{Role: chat.User, Parts: []chat.Part{filePart("a.png", 20<<20)}}
	other := ports.PromptMessage{Role: chat.User, Parts: []chat.Part{filePart("b.png", 20<<20)}}
	t.Run("EarlierOnesAreLeftOut", func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{say("a")}, files: all}
		got := askFor(t.Context(), routerOf(nil, a), ports.Prompt{Messages: []ports.PromptMessage{big, done, other}, ReadFile: newLibrary().read})
		want := []string{"[file a.png was left out: the files of this conversation are too large] / done / <picture b>"}
		if d := cmp.Diff(want, a.prompts); d != "" || got.err != nil {
			t.Error(got.err, d)
		}
	})
	t.Run("OfOneMessage", func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{say("a")}, files: all}
		both := ports.PromptMessage{Role: chat.User, Parts: append(big.Parts, other.Parts...)}
		got := askFor(t.Context(), routerOf(nil, a), ports.Prompt{Messages: []ports.PromptMessage{both}, ReadFile: newLibrary().read})
		if upstream.ReasonOf(got.err) != upstream.TooLong || a.calls > 0 {
			t.Errorf("%v after %d calls", got.err, a.calls)
		}
	})
	t.Run("LargerThanTheySay", func(t *testing.T) {
		a := &scripted{name: "a", outcomes: []outcome{say("a")}, files: all}
		files := &library{files: map[string]string{"a.png": strings.Repeat("x", maxPromptFiles+1)}}
		got := askFor(t.Context(), routerOf(nil, a), ports.Prompt{Messages: []ports.PromptMessage{withFiles("x", "a.png")}, ReadFile: files.read})
		if d := cmp.Diff([]string{"x [file a.png was left out: the files of this conversation are too large]"}, a.prompts); d != "" || got.err != nil {
			t.Error(got.err, d)
		}
	})
	// Prompts with large files wait for one another, until their replies begin.
	t.Run("OfAllPrompts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			a := &scripted{name: "a", outcomes: []outcome{{pieces: []string{"a"}, takes: time.Second}}, files: all}
			r := routerOf(nil, a)
			begun := time.Now()
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					// Of as many users: one alone gets half of what the provider makes at once,
					// and gives it back only when a reply has ended.
					p := ports.Prompt{UserID: strconv.Itoa(i), Messages: []ports.PromptMessage{big}, ReadFile: newLibrary().read}
					if got := askFor(t.Context(), r, p); got.err != nil {
						t.Error(got.err)
					}
				})
			}
			wg.Wait()
			if took := time.Since(begun); took != 2*time.Second {
				t.Errorf("8 prompts of 20 MiB, 4 at a time, took %v", took)
			}
		})
	})
	t.Run("WaitingEnds", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := routerOf(nil, &scripted{name: "a", outcomes: []outcome{say("a")}, files: all})
			if !r.held.TryAcquire(maxHeldFiles) {
				t.Fatal("not free")
			}
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			got := askFor(ctx, r, ports.Prompt{Messages: []ports.PromptMessage{big}, ReadFile: newLibrary().read})
			if !fault.Is(got.err, fault.Canceled) {
				t.Error(got.err)
			}
		})
	})
}

func TestRouter_AcceptsFile(t *testing.T) {
	a, b := &scripted{name: "a", files: all}, &scripted{name: "b"}
	r := routerOf(nil, b, a)
	for name, c := range map[string]struct {
		params    chat.Params
		mediaType string
		want      string // "": accepted
	}{
		"AnyModelThatCan": {chat.Params{}, "image/png", ""},
		"Named":           {chat.Params{Provider: "a"}, "application/pdf", ""},
		"NamedCannot":     {chat.Params{Model: "b-1"}, "image/webp", "The model b-1 cannot read files of the type image/webp"},
		"EveryModelText":  {chat.Params{Model: "b-1"}, "text/csv", ""},
		"NoModel":         {chat.Params{}, "application/zip", "The model b-1 cannot read files of the type application/zip"},
		"OtherImages":     {chat.Params{Provider: "a"}, "image/tiff", "The model a-1 cannot read files of the type image/tiff"},
	} {
		err := r.AcceptsFile(c.params, c.mediaType)
		switch f := fault.As(err); {
		case c.want == "" && err == nil:
		case f == nil || f.Kind != fault.MediaType || f.Message != c.want:
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := r.AcceptsFile(chat.Params{Model: "gpt-9"}, "image/png"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a model that is not on the lists: %v", err)
	}
}

func TestNew_Files(t *testing.T) {
	for name, c := range map[string]struct {
		config     Config
		model      string
		image, pdf bool
	}{
		"OpenAI":       {Config{OpenAI: Provider{Key: "k"}}, "", true, true},
		"OldModel":     {Config{OpenAI: Provider{Key: "k", Models: []string{"gpt-3.5-turbo"}}}, "", false, false},
		"Anthropic":    {Config{Anthropic: Provider{Key: "k"}}, "", true, true},
		"Compatible":   {Config{OpenAI: Provider{BaseURL: "http://localhost:1/v1", Models: []string{"m"}}}, "", false, false},
		"Configured":   {Config{OpenAI: Provider{BaseURL: "http://localhost:1/v1", Models: []string{"m"}, Files: &Files{Images: true}}}, "", true, false},
		"TurnedOff":    {Config{OpenAI: Provider{Key: "k", Files: &Files{}}}, "", false, false},
		"UnknownModel": {Config{OpenAI: Provider{BaseURL: "http://localhost:1/v1"}}, "", false, false},
		"Demo":         {Config{}, "", true, true},
	} {
		r, err := New(c.config)
		if err != nil {
			t.Fatal(err)
		}
		for mediaType, want := range map[string]bool{"image/png": c.image, "application/pdf": c.pdf, "text/markdown": true} {
			if err := r.AcceptsFile(chat.Params{Model: c.model}, mediaType); (err == nil) != want {
				t.Errorf("%s: %s: %v", name, mediaType, err)
			}
		}
		r.Close()
	}
}

func TestFilesNamed(t *testing.T) {
	for names, want := range map[string]*Files{
		"images": {Images: true}, "pdf": {PDF: true}, "images,pdf": {Images: true, PDF: true}, "none": {},
	} {
		if d := cmp.Diff(want, FilesNamed(strings.Split(names, ","))); d != "" {
			t.Error(names, d)
		}
	}
	if got := FilesNamed(nil); got != nil {
		t.Errorf("nothing: %+v", got)
	}
}

// The ids of files are a user's own: a shared cache does not answer one user with
// what the other's file shows.
func TestCache_Files(t *testing.T) {
	for _, shared := range []bool{false, true} {
		a := &scripted{name: "a", outcomes: []outcome{say("a")}, files: all}
		r := cachedRouter(shared, a)
		ask := func(user string, m ports.PromptMessage) {
			t.Helper()
			if got := askFor(t.Context(), r, ports.Prompt{UserID: user, Messages: []ports.PromptMessage{m}, ReadFile: newLibrary().read}); got.err != nil {
				t.Error(got.err)
			}
		}
		ask("u", withFiles("x", "a.png"))
		ask("u", withFiles("x", "a.png"))
		if a.calls != 1 {
			t.Errorf("shared %v: the same was asked %d times", shared, a.calls)
		}
		ask("u", withFiles("x", "b.png"))
		ask("u", withFiles("x"))
		ask("other", withFiles("x", "a.png"))
		if a.calls != 4 {
			t.Errorf("shared %v: %d calls for 4 questions", shared, a.calls)
		}
	}
}

func TestTitle_NamesFiles(t *testing.T) {
	a := &scripted{name: "a", outcomes: []outcome{say("A cat")}, files: all}
	title, _, err := routerOf(nil, a).Title(t.Context(), "u", chat.Params{}, []ports.PromptMessage{withFiles("", "a.png")})
	if err != nil || title != "A cat" || !strings.Contains(a.prompts[0], "a.png") {
		t.Errorf("%q, %v, %q", title, err, a.prompts)
	}
}

func TestRouter_UsageOfFiles(t *testing.T) {
	a := &scripted{name: "a", outcomes: []outcome{{pieces: []string{"a"}, err: upstream.Fail(upstream.Lost, errors.New("scripted"))}}, files: all}
	got := askFor(t.Context(), routerOf(nil, a), ports.Prompt{Messages: []ports.PromptMessage{withFiles("x", "a.png")}, ReadFile: newLibrary().read})
	if want := int64(chat.FileTokens("image/png", 10)); got.answer.Usage.Input < want {
		t.Errorf("%+v", got.answer.Usage)
	}
}
