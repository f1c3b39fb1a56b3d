package rest

import (
	"bytes"
	"context"
	"html"
	"regexp"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"

	"parley/adapters/httpapi"
	"parley/domain/chat"
	"parley/domain/fault"
)

// renderWire asks for messages that can be put into a page as they come.
type renderWire struct {
	Render string `query:"render" schema:"enum=html"`
}

func (in renderWire) html() (bool, error) {
	switch in.Render {
	case "":
		return false, nil
	case "html":
		return true, nil
	}
	return false, fault.New(fault.Invalid, "render must be html")
}

// messageRenderer writes the messages of one response, with their content as
// HTML beside it if that is wanted. The content itself stays as it was sent.
type messageRenderer struct {
	work *work // nil: no HTML
}

// renderMessages returns a renderer that stops when ctx is over.
func renderMessages(ctx context.Context, asHTML bool) messageRenderer {
	if !asHTML {
		return messageRenderer{}
	}
	return messageRenderer{newWork(ctx)}
}

func (r messageRenderer) message(m chat.Message) messageJSON {
	out := messageOf(m)
	if r.work != nil {
		out.ContentHTML = httpapi.Optional(contentHTML(r.work, m.Content))
	}
	return out
}

// messageOrNull returns nil for the zero message.
func (r messageRenderer) messageOrNull(m chat.Message) *messageJSON {
	if m.ID == "" {
		return nil
	}
	out := r.message(m)
	return &out
}

// contentHTML renders Markdown. HTML in it is text like any other, so a chat
// about <script> can be read. Two things stand between a message and the page:
// the renderer, which writes no tag or address that it was given, and a list of
// what may remain. Text that takes too much work is shown as it is written.
func contentHTML(w *work, markdown string) string {
	var out bytes.Buffer
	if err := w.render([]byte(markdown), &out); err != nil {
		if w.ctx.Err() != nil {
			return "" // there is no reader
		}
		return "<pre>" + html.EscapeString(markdown) + "</pre>"
	}
	return policy().SanitizeReader(&out).String()
}

// imageAsLink shows an image as a link to it. A page that shows a message must
// not load anything by itself: a model that was talked into it could tell an
// image's server what stands in the chat.
type imageAsLink struct{}

// RegisterFuncs implements renderer.NodeRenderer.
func (imageAsLink) RegisterFuncs(r renderer.NodeRendererFuncRegisterer) {
	r.Register(ast.KindImage, func(w util.BufWriter, _ []byte, n ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			_, err := w.WriteString("</a>")
			return ast.WalkContinue, err
		}
		_, err := w.WriteString(`<a href="` + html.EscapeString(string(n.(*ast.Image).Destination)) + `">`)
		return ast.WalkContinue, err
	})
}

var policy = sync.OnceValue(func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "del", "code", "pre",
		"blockquote", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td")
	p.AllowAttrs("class").Matching(regexp.MustCompile(`^language-[A-Za-z0-9+#_-]{1,40}$`)).OnElements("code")
	p.AllowAttrs("align").Matching(regexp.MustCompile(`^(left|center|right)$`)).OnElements("th", "td")
	p.AllowAttrs("start").Matching(regexp.MustCompile(`^[0-9]{1,9}$`)).OnElements("ol")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto")
	p.RequireParseableURLs(true)
	p.RequireNoFollowOnLinks(true)
	p.RequireNoReferrerOnLinks(true)
	p.AddTargetBlankToFullyQualifiedLinks(true) // with rel=noopener
	return p
})
