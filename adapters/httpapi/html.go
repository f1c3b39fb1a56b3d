package httpapi

import (
	"bytes"
	"html"
	"regexp"
	"strings"
	"sync"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/util"

	"parley/domain/chat"
	"parley/domain/fault"
)

// renderWire asks for messages that can be put into a page as they come.
type renderWire struct {
	Render string `query:"render" is:"enum=html"`
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

// show is messageOf, with the content as HTML beside it if that is wanted. The
// content itself stays as it was sent.
func show(m chat.Message, asHTML bool) messageJSON {
	out := messageOf(m)
	if asHTML {
		out.ContentHTML = optional(contentHTML(m.Content))
	}
	return out
}

// What is parsed is bounded; beyond that text is shown as it is written. The
// parser takes time by the square of open brackets and of nested quotes.
const (
	longestMarkdown = 64 << 10 // bytes: more than a user may send, and than nearly all replies
	mostBrackets    = 1000
	deepestQuote    = 50
)

func parseable(markdown string) bool {
	if len(markdown) > longestMarkdown || strings.Count(markdown, "[") > mostBrackets {
		return false
	}
	for line := range strings.Lines(markdown) {
		text := strings.TrimLeft(line, "> \t")
		if strings.Count(line[:len(line)-len(text)], ">") > deepestQuote {
			return false
		}
	}
	return true
}

// contentHTML renders Markdown. HTML in it is text like any other, so a chat
// about <script> can be read. Two things stand between a message and the page:
// the renderer, which writes no tag or address that it was given, and a list of
// what may remain.
func contentHTML(markdown string) string {
	if !parseable(markdown) {
		return "<pre>" + html.EscapeString(markdown) + "</pre>"
	}
	var out bytes.Buffer
	if err := markdownToHTML().Convert([]byte(markdown), &out); err != nil {
		return "<pre>" + html.EscapeString(markdown) + "</pre>"
	}
	return policy().SanitizeReader(&out).String()
}

var markdownToHTML = sync.OnceValue(func() goldmark.Markdown {
	var blocks, inlines []util.PrioritizedValue
	for _, p := range parser.DefaultBlockParsers() {
		if p.Value != parser.NewHTMLBlockParser() {
			blocks = append(blocks, p)
		}
	}
	for _, p := range parser.DefaultInlineParsers() {
		if p.Value != parser.NewRawHTMLParser() {
			inlines = append(inlines, p)
		}
	}
	return goldmark.New(
		goldmark.WithParser(parser.NewParser(
			parser.WithBlockParsers(blocks...),
			parser.WithInlineParsers(inlines...),
			parser.WithParagraphTransformers(parser.DefaultParagraphTransformers()...),
		)),
		goldmark.WithExtensions(
			extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
			extension.Strikethrough, extension.Linkify,
		),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(util.Prioritized(imageAsLink{}, 100))),
	)
})

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
