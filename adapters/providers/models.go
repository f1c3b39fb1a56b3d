package providers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"parley/adapters/providers/upstream"
	"parley/ports"
)

// modelSet is the models of one provider, the default first. Its only model is
// "" until a server that was configured without a model has been asked for its
// list.
type modelSet struct {
	newBreaker func(model string) *breaker

	mu  sync.Mutex
	all []*model

	lookup  chan struct{} // held while the server is asked
	asked   time.Time     // last, without success
	lastErr error
}

// model is one model with what is known of it.
type model struct {
	name    string
	breaker *breaker
	problem problem
}

// problem is what keeps a model from answering, as the provider said last. The
// zero value: nothing is known.
type problem struct {
	code   string // ports.ProblemKeyRefused ...
	detail string // one sentence for operators; names settings and models only
	byList bool   // found by asking for the list of models, which can clear it too
}

func (s *modelSet) set(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lookup == nil {
		s.lookup = make(chan struct{}, 1)
	}
	s.all = nil
	for _, name := range names {
		s.all = append(s.all, &model{name: name, breaker: s.newBreaker(name)})
	}
}

// list returns the models as they are now.
func (s *modelSet) list() []model {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]model, 0, len(s.all))
	for _, m := range s.all {
		list = append(list, *m)
	}
	return list
}

// first is the name of the default model.
func (s *modelSet) first() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all[0].name
}

func (s *modelSet) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(name) != nil
}

func (s *modelSet) find(name string) *model {
	for _, m := range s.all {
		if m.name == name {
			return m
		}
	}
	return nil
}

// breaker is that of a model, or of the one whose name was not known before.
func (s *modelSet) breaker(name string) *breaker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.find(name); m != nil {
		return m.breaker
	}
	return s.all[0].breaker
}

// record keeps what a call has shown: a key that is refused, a model that is
// missing, or, with the first output, that nothing is wrong.
func (s *modelSet) record(name string, err error, begun bool) {
	var found problem
	switch reason := upstream.ReasonOf(err); {
	case err == nil, begun:
	case reason == upstream.KeyRefused:
		found = keyRefused
	case reason == upstream.UnknownModel:
		found = problem{code: ports.ProblemModelMissing, detail: "the provider does not have this model"}
	default:
		return
	}
	s.note(name, found)
}

// note sets a model's problem. A key is that of all the provider's models, but
// a model may be refused to a key alone: only success clears the others.
func (s *modelSet) note(name string, p problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.find(name); m != nil {
		m.problem = p
	}
}

var keyRefused = problem{code: ports.ProblemKeyRefused, detail: "the provider refuses the key"}

// lister is a provider that can list the models of its server.
type lister interface {
	ListModels(context.Context) ([]string, error)
}

const (
	listTimeout  = 5 * time.Second
	listInterval = 5 * time.Second // between two attempts to find a server's model
	listShown    = 10              // names in a sentence
)

// resolve returns the endpoint with its model's name, which a server that was
// configured without one is asked for.
func (e endpoint) resolve(ctx context.Context) (endpoint, error) {
	if e.model != "" {
		return e, nil
	}
	name, err := e.findModel(ctx)
	return endpoint{e.provider, name}, err
}

// findModel asks the server for its models and takes the default from them.
// Callers wait for one request, and share its failure for a moment.
func (p *provider) findModel(ctx context.Context) (string, error) {
	s := &p.models
	select {
	case s.lookup <- struct{}{}:
		defer func() { <-s.lookup }()
	case <-ctx.Done():
		return "", upstream.Ended(ctx)
	}
	if name := s.first(); name != "" {
		return name, nil
	}
	if s.lastErr != nil && time.Since(s.asked) < listInterval {
		return "", s.lastErr
	}
	names, err := p.listModels(ctx)
	if ctx.Err() != nil {
		return "", upstream.Ended(ctx)
	}
	name, found := "", problem{}
	switch reason := upstream.ReasonOf(err); {
	case err == nil:
		if name, found = p.pick(names); name == "" {
			err = upstream.Fail(upstream.UnknownModel, errors.New(found.detail))
		}
	case reason == upstream.UnknownModel, reason == upstream.NotAStream, reason == upstream.BadRequest:
		name, err = p.defaultModel, nil // it has no list
	case reason == upstream.KeyRefused:
		found = keyRefused
	default:
		found = problem{code: ports.ProblemModelUnknown, detail: p.setting + " is not set, and the server did not list its models"}
	}
	if err != nil {
		s.note("", found)
		s.asked, s.lastErr = time.Now(), err
		return "", err
	}
	s.set(name)
	p.discovered()
	return name, nil
}

func (p *provider) listModels(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, listTimeout, upstream.Fail(upstream.FirstToken, errors.New("no list of models in time")))
	defer cancel()
	return p.lister.ListModels(ctx)
}

// pick takes the default model from a server's list: the only one that can
// chat, or the registry's default if the server has it.
func (p *provider) pick(names []string) (string, problem) {
	chats := slices.DeleteFunc(slices.Clone(names), cannotChat)
	switch {
	case len(chats) == 1:
		return chats[0], problem{}
	case slices.Contains(chats, p.defaultModel):
		return p.defaultModel, problem{}
	case len(chats) == 0:
		return "", problem{code: ports.ProblemModelMissing, detail: "the server has no model yet"}
	}
	return "", problem{code: ports.ProblemModelUnknown, detail: fmt.Sprintf("set %s: the server has %s", p.setting, shown(chats))}
}

// cannotChat reports whether a model is for something else, by its name.
func cannotChat(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "embed") || strings.Contains(name, "rerank")
}

// shown is a list of names that fits into a sentence.
func shown(names []string) string {
	more := ""
	if n := len(names) - listShown; n > 0 {
		names, more = names[:listShown], fmt.Sprintf(" and %d more", n)
	}
	labels := make([]string, len(names))
	for i, name := range names {
		labels[i] = plain(name)
	}
	return strings.Join(labels, ", ") + more
}

// plain makes a server's name fit for a sentence: short, and of visible
// characters.
func plain(name string) string {
	name = strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII || !unicode.IsGraphic(r) || r == ' ' {
			return -1
		}
		return r
	}, name)
	return name[:min(len(name), 64)]
}

// Check asks every provider that can say so for its models, which costs
// nothing: it finds the model of a server that was configured without one, a
// key that is refused, and models that a provider does not have. Models then
// says what was found. The result holds the providers that could not be asked.
func (r *Router) Check(ctx context.Context) map[string]error {
	failed := map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range r.providers {
		if p.lister == nil {
			continue
		}
		wg.Go(func() {
			if err := p.check(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed[p.name] = err
			}
		})
	}
	wg.Wait()
	return failed
}

func (p *provider) check(ctx context.Context) error {
	if p.models.first() == "" {
		if _, err := p.findModel(ctx); err != nil {
			return err
		}
		return nil
	}
	names, err := p.listModels(ctx)
	switch reason := upstream.ReasonOf(err); {
	case reason == upstream.KeyRefused:
		for _, m := range p.models.list() {
			p.models.note(m.name, problem{keyRefused.code, keyRefused.detail, true})
		}
		return err
	case reason == upstream.UnknownModel, reason == upstream.NotAStream, reason == upstream.BadRequest:
		return nil // it has no list
	case err != nil:
		return err
	}
	for _, m := range p.models.list() {
		if m.problem.byList {
			p.models.note(m.name, problem{})
		}
	}
	if len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, "*") }) {
		return nil // nothing that a name could be missing from
	}
	for _, m := range p.models.list() {
		if !slices.ContainsFunc(names, func(listed string) bool { return sameModel(listed, m.name) }) {
			p.models.note(m.name, problem{ports.ProblemModelMissing, "not among the server's models: " + shown(names), true})
		}
	}
	return nil
}

// sameModel reports whether a listed name is that of a model: Ollama adds the
// tag "latest", Gemini puts "models/" before it, and providers list a dated name
// for one without a date.
func sameModel(listed, name string) bool {
	return listed == name || listed == name+":latest" || listed == "models/"+name || undated(listed) == name
}
