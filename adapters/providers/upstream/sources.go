package upstream

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"parley/domain/chat"
)

// Bounds of the sources of a reply. What exceeds them is left out; the text is not.
const (
	maxSources     = 100
	maxSourceURL   = 2048 // bytes
	maxSourceTitle = 300  // code points
)

// ReadSources returns the pages that a value names: a URL, an object with one, or
// a list of either. The same page may come more than once.
//
//	"https://..."                                    Perplexity, xAI
//	{"url", "title"}                                 Perplexity, Mistral, Anthropic
//	{"type": "url_citation", "url_citation": {...}}  OpenAI, OpenRouter
//	{"type": "web_fetch_result", "url", "content"}   Anthropic
func ReadSources(v gjson.Result) []chat.Part { return appendSources(nil, v, maxNesting) }

func appendSources(list []chat.Part, v gjson.Result, depth int) []chat.Part {
	switch {
	case depth == 0:
	case v.Type == gjson.String:
		list = append(list, chat.Part{Kind: chat.SourcePart, URL: v.Str})
	case v.IsArray():
		v.ForEach(func(_, item gjson.Result) bool {
			list = appendSources(list, item, depth-1)
			return len(list) < 2*maxSources // some name a page that was named before
		})
	case v.IsObject():
		if inner := v.Get("url_citation"); inner.IsObject() {
			v = inner
		}
		if address := v.Get("url"); address.Type == gjson.String {
			list = append(list, chat.Part{
				Kind: chat.SourcePart, URL: address.Str,
				Title: cmp.Or(v.Get("title").Str, v.Get("content.title").Str, v.Get("document_title").Str),
			})
		}
	}
	return list
}

// sourceSet keeps which pages a reply has named.
type sourceSet struct {
	seen map[string]bool // by URL
}

// add returns the source as it can be shown, and false for one that was named
// before, exceeds a bound, or is no page of the web.
func (s *sourceSet) add(p chat.Part) (chat.Part, bool) {
	u, err := url.Parse(p.URL)
	switch {
	case len(s.seen) >= maxSources, len(p.URL) > maxSourceURL, !utf8.ValidString(p.URL), err != nil:
		return chat.Part{}, false
	case u.Host == "", u.User != nil, !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https"), s.seen[p.URL]:
		return chat.Part{}, false
	}
	if s.seen == nil {
		s.seen = map[string]bool{}
	}
	s.seen[p.URL] = true
	title, _ := chat.CleanOutput(p.Title)
	return chat.Part{
		Kind: chat.SourcePart, ID: "source-" + strconv.Itoa(len(s.seen)), URL: p.URL,
		Title: firstRunes(strings.Join(strings.Fields(title), " "), maxSourceTitle),
	}, true
}
