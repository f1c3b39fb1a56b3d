package providers

import (
	"context"
	"errors"
	"slices"
	"sync"

	"parley/adapters/providers/upstream"
	"parley/domain/chat"
	"parley/domain/fault"
	"parley/ports"
)

// Files says which files a model can read beside text files, which every model
// gets as text.
type Files struct {
	Images bool // PNG, JPEG, GIF and WebP
	PDF    bool
}

// FilesNamed returns the files that a list names as images and pdf; nil for an
// empty list. Other names add none.
func FilesNamed(names []string) *Files {
	if len(names) == 0 {
		return nil
	}
	return &Files{Images: slices.Contains(names, "images"), PDF: slices.Contains(names, "pdf")}
}

// read reports whether a file of that kind can be read.
func (f Files) read(kind upstream.FileKind) bool {
	switch kind {
	case upstream.TextFile:
		return true
	case upstream.ImageFile:
		return f.Images
	case upstream.PDFFile:
		return f.PDF
	}
	return false
}

// files returns which files a model of the provider reads: as configured, as is
// known of the provider's own server, or text alone.
func (p *provider) files(model string) Files {
	switch {
	case p.configured.Files != nil:
		return *p.configured.Files
	case p.configured.BaseURL != "" || p.entry.files == nil:
		return Files{}
	}
	return p.entry.files(model)
}

func (e endpoint) reads(mediaType string) bool {
	return e.files(e.model).read(upstream.FileKindOf(mediaType))
}

// AcceptsFile refuses a file of a media type that the model of p cannot read, with
// a sentence that names both. When p names no model, any of those that may make
// the reply will do.
func (r *Router) AcceptsFile(p chat.Params, mediaType string) error {
	route, named, err := r.route(p, 0)
	if err != nil {
		return err
	}
	candidates := route
	if named {
		candidates = route[:1]
	}
	if slices.ContainsFunc(candidates, func(e endpoint) bool { return e.reads(mediaType) }) {
		return nil
	}
	name := plain(route[0].model)
	if name == "" {
		name = route[0].name
	}
	return fault.New(fault.MediaType, "The model %s cannot read files of the type %s", name, plain(mediaType))
}

// withReaders leaves those endpoints of a route out that cannot read the files of
// the user's last message. The first one stays if the caller has named it, and all
// stay if none can read them: notes take the place of the files.
func withReaders(route []endpoint, named bool, messages []ports.PromptMessage) []endpoint {
	files := filesOf(lastMessage(messages))
	reads := func(e endpoint) bool {
		return !slices.ContainsFunc(files, func(f chat.Part) bool { return !e.reads(f.MediaType) })
	}
	if len(files) == 0 || named && !reads(route[0]) || !slices.ContainsFunc(route, reads) {
		return route
	}
	return slices.DeleteFunc(slices.Clone(route), func(e endpoint) bool { return !reads(e) })
}

// lastMessage returns the parts of the user's last message.
func lastMessage(messages []ports.PromptMessage) []chat.Part {
	for _, m := range slices.Backward(messages) {
		if m.Role == chat.User {
			return m.Parts
		}
	}
	return nil
}

func filesOf(parts []chat.Part) (files []chat.Part) {
	for _, p := range parts {
		if p.Kind == chat.FilePart {
			files = append(files, p)
		}
	}
	return files
}

// hasFiles reports whether a prompt has files.
func hasFiles(p ports.Prompt) bool {
	return slices.ContainsFunc(p.Messages, func(m ports.PromptMessage) bool { return len(filesOf(m.Parts)) > 0 })
}

// Bounds of the files that are held in memory, in bytes of their content. A
// request is about seven times as large while it is made.
const (
	maxPromptFiles = 24 << 20 // of one prompt: 32 MB in base64, the most that Anthropic takes
	maxHeldFiles   = 96 << 20 // of all prompts
)

const tooLarge = "was left out: the files of this conversation are too large"

// heldFiles are the files of one prompt, each read once, however often the
// providers are asked.
type heldFiles struct {
	content map[string][]byte    // by id
	missing map[string]chat.Part // the note that takes the place of a file, by the file's id
	release func()               // gives up the content
}

// readFiles reads the files of a prompt that any of the endpoints reads, the
// newest first, and waits while other prompts hold too many. Files of earlier
// messages that do not fit are left out. The faults: FilesUnavailable, and TooLong
// when the files of the user's last message do not fit.
func (r *Router) readFiles(ctx context.Context, p ports.Prompt, route []endpoint) (*heldFiles, error) {
	h := &heldFiles{content: map[string][]byte{}, missing: map[string]chat.Part{}, release: func() {}}
	newest := filesOf(lastMessage(p.Messages))
	var wanted []chat.Part
	size := int64(0)
	for _, m := range slices.Backward(p.Messages) {
		for _, f := range filesOf(m.Parts) {
			known := slices.ContainsFunc(wanted, func(w chat.Part) bool { return w.ID == f.ID }) || h.missing[f.ID].Kind != ""
			switch {
			case known, !slices.ContainsFunc(route, func(e endpoint) bool { return e.reads(f.MediaType) }):
			case size+f.Size <= maxPromptFiles:
				wanted, size = append(wanted, f), size+f.Size
			case slices.ContainsFunc(newest, func(n chat.Part) bool { return n.ID == f.ID }):
				return nil, upstream.Fail(upstream.TooLong, errors.New("the files of the message are too large for one request"))
			default:
				h.missing[f.ID] = upstream.FileNote(f, tooLarge)
			}
		}
	}
	if len(wanted) == 0 {
		return h, nil
	}
	if r.held.Acquire(ctx, size) != nil {
		return nil, upstream.Ended(ctx)
	}
	h.release = sync.OnceFunc(func() {
		h.content = nil
		r.held.Release(size)
	})
	held := 0
	for _, f := range wanted {
		data, err := upstream.ReadFile(ctx, p, f.ID)
		held += len(data)
		switch {
		case fault.Is(err, fault.NotFound): // the note is the adapter's
		case err != nil:
			h.release()
			return nil, err
		case held > maxPromptFiles: // more than its size says
			h.missing[f.ID] = upstream.FileNote(f, tooLarge)
		default:
			h.content[f.ID] = data
		}
	}
	return h, nil
}

// promptFor returns the prompt as an endpoint gets it: with notes in the place of
// files that it cannot read and, if recent, of those of earlier messages.
func (h *heldFiles) promptFor(p ports.Prompt, e endpoint, recent bool) ports.Prompt {
	last := len(p.Messages) - 1
	for last > 0 && p.Messages[last].Role != chat.User {
		last--
	}
	messages := slices.Clone(p.Messages)
	for i, m := range messages {
		messages[i].Parts = slices.Clone(m.Parts)
		for j, part := range m.Parts {
			if part.Kind != chat.FilePart {
				continue
			}
			note, missing := h.missing[part.ID]
			switch {
			case missing:
				messages[i].Parts[j] = note
			case !e.reads(part.MediaType):
				messages[i].Parts[j] = upstream.FileNote(part, upstream.NotReadable)
			case recent && i < last:
				messages[i].Parts[j] = upstream.FileNote(part, "was left out: the model did not take it")
			}
		}
	}
	p.Messages = messages
	p.ReadFile = func(_ context.Context, _, id string) ([]byte, error) {
		if data, ok := h.content[id]; ok {
			return data, nil
		}
		return nil, chat.FileNotFound()
	}
	return p
}

// hasEarlier reports whether an endpoint gets files of earlier messages.
func (h *heldFiles) hasEarlier(p ports.Prompt, e endpoint) bool {
	newest := filesOf(lastMessage(p.Messages))
	for _, m := range p.Messages {
		for _, f := range filesOf(m.Parts) {
			if h.content[f.ID] != nil && e.reads(f.MediaType) && !slices.ContainsFunc(newest, func(n chat.Part) bool { return n.ID == f.ID }) {
				return true
			}
		}
	}
	return false
}
