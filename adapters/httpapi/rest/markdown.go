package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer"
	"github.com/yuin/goldmark/text"
	"github.com/yuin/goldmark/util"
)

// The parser takes time by the square, or worse, of nested blocks, open
// brackets, emphasis that does not close, backticks, and columns of tables. Its
// work is counted, and it is stopped when there is too much of it: a step is
// some 10 ns, a call of a parser, a comparison, or 8 bytes that are looked at.
const (
	maxMarkdownBytes = 64 << 10 // more than a user may send, and than nearly all replies
	maxBlockDepth    = 50       // quotes and lists within each other
	maxBrackets      = 1000     // outside of code: each may be looked for again from the end of a link
	stepsPerByte     = 100      // prose takes fewer than 10
	minSteps         = 10_000
	maxPageSteps     = 10_000_000 // all messages of a page together
	stepsPerCheck    = 10_000     // between two looks whether the reader is still there
)

var errTooComplex = errors.New("too complex to render")

// work counts the steps of rendering the messages of one page.
type work struct {
	ctx   context.Context
	page  int // steps that are left for the page
	rest  int // and for the message
	check int // and until ctx is looked at

	spans map[codeRun]bool // runs of backticks that close nothing
	pipes int
	// brackets that may open the text of a link
	brackets int
}

func newWork(ctx context.Context) *work { return &work{ctx: ctx, page: maxPageSteps} }

// stopped is the panic that leaves the parser.
type stopped struct{ err error }

// spend counts steps. It leaves the parser if there are too many, or if the
// reader has gone.
func (w *work) spend(steps int) {
	w.rest -= steps
	if w.check -= steps; w.check <= 0 {
		w.check = stepsPerCheck
		if err := w.ctx.Err(); err != nil {
			panic(stopped{err})
		}
	}
	if w.rest < 0 {
		panic(stopped{errTooComplex})
	}
}

// render converts Markdown to HTML that must still be sanitized.
func (w *work) render(markdown []byte, out io.Writer) (err error) {
	if len(markdown) > maxMarkdownBytes {
		return errTooComplex
	}
	steps := min(minSteps+stepsPerByte*len(markdown), w.page)
	w.rest, w.check, w.spans, w.pipes, w.brackets = steps, 0, nil, 0, 0
	defer func() {
		w.page -= steps - max(w.rest, 0)
		if r := recover(); r != nil {
			s, ok := r.(stopped)
			if !ok {
				panic(r)
			}
			err = s.err
		}
	}()
	w.spend(1)
	pc := parser.NewContext()
	pc.Set(workKey, w)
	md := markdownToHTML()
	root := md.Parser().Parse(countedReader{text.NewReader(markdown), w}, parser.WithContext(pc))
	return md.Renderer().Render(out, markdown, root)
}

var workKey = parser.NewContextKey()

func workOf(pc parser.Context) *work { return pc.Get(workKey).(*work) }

var markdownToHTML = sync.OnceValue(func() goldmark.Markdown {
	var blocks, inlines []util.PrioritizedValue
	for _, p := range parser.DefaultBlockParsers() {
		if p.Value != parser.NewHTMLBlockParser() {
			blocks = append(blocks, util.Prioritized(countedBlock{p.Value.(parser.BlockParser)}, p.Priority))
		}
	}
	for _, p := range parser.DefaultInlineParsers() {
		switch p.Value {
		case parser.NewRawHTMLParser():
			continue
		case parser.NewEmphasisParser():
			p.Value = delimiterParser{chars: "*_", node: func(n int) ast.Node { return ast.NewEmphasis(n) }}
		case parser.NewCodeSpanParser():
			p.Value = codeSpanParser{p.Value.(parser.InlineParser)}
		case parser.NewLinkParser():
			p.Value = linkParser{p.Value.(parser.InlineParser)}
		default:
			p.Value = countedInline{p.Value.(parser.InlineParser)}
		}
		inlines = append(inlines, p)
	}
	inlines = append(inlines,
		util.Prioritized(delimiterParser{chars: "~", node: func(int) ast.Node { return extast.NewStrikethrough() }}, 500),
		util.Prioritized(countedInline{extension.NewLinkifyParser()}, 999))
	return goldmark.New(
		goldmark.WithParser(parser.NewParser(
			parser.WithBlockParsers(blocks...),
			parser.WithInlineParsers(inlines...),
			parser.WithParagraphTransformers(append(parser.DefaultParagraphTransformers(), util.Prioritized(paragraphBound{}, 50))...),
		)),
		goldmark.WithExtensions(extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute))),
		goldmark.WithRendererOptions(renderer.WithNodeRenderers(
			util.Prioritized(imageAsLink{}, 100), util.Prioritized(extension.NewStrikethroughHTMLRenderer(), 500),
		)),
	)
})

// countedReader counts the lines that parsers of blocks look at.
type countedReader struct {
	text.Reader
	work *work
}

func (r countedReader) PeekLine() ([]byte, text.Segment) {
	r.work.spend(1)
	return r.Reader.PeekLine()
}

// countedBlock counts the calls of a parser of blocks, and bounds how deep its
// blocks are nested.
type countedBlock struct{ parser.BlockParser }

func (b countedBlock) Open(parent ast.Node, reader text.Reader, pc parser.Context) (ast.Node, parser.State) {
	w := workOf(pc)
	line, _ := reader.PeekLine()
	w.spend(1 + len(line)/8) // some look at the whole line
	node, state := b.BlockParser.Open(parent, reader, pc)
	if node != nil && isContainer(node) {
		depth := 1
		for n := parent; n != nil; n = n.Parent() {
			if isContainer(n) {
				depth++
			}
		}
		if depth > maxBlockDepth {
			panic(stopped{errTooComplex})
		}
	}
	return node, state
}

func isContainer(n ast.Node) bool { return n.Kind() == ast.KindBlockquote || n.Kind() == ast.KindList }

func (b countedBlock) Continue(node ast.Node, reader text.Reader, pc parser.Context) parser.State {
	workOf(pc).spend(2)
	return b.BlockParser.Continue(node, reader, pc)
}

// countedInline counts the calls of a parser of inlines, and the bytes that one
// of links and addresses looks at.
type countedInline struct{ parser.InlineParser }

func (i countedInline) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	line, _ := block.PeekLine()
	w := workOf(pc)
	n := 1
	for n < len(line) && line[n] > ' ' && line[n] != '<' && line[n] != '>' {
		n++
	}
	w.spend(2 + n/8)
	return i.InlineParser.Parse(parent, block, pc)
}

// codeSpanParser remembers which runs of backticks do not close anything.
type codeSpanParser struct{ parser.InlineParser }

type codeRun struct {
	block  ast.Node
	length int
}

func (c codeSpanParser) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	w := workOf(pc)
	line, segment := block.PeekLine()
	n := 0
	for n < len(line) && line[n] == '`' {
		n++
	}
	run := codeRun{parent, n}
	if w.spans[run] {
		w.spend(2 + n/8)
		block.Advance(n)
		return ast.NewTextSegment(segment.WithStop(segment.Start + n))
	}
	w.spend(2)
	node := c.InlineParser.Parse(parent, block, pc)
	if node != nil && node.Kind() == ast.KindCodeSpan {
		_, end := block.Position()
		w.spend((end.Start - segment.Start) / 8)
		return node
	}
	w.spend(remaining(parent, segment) / 8)
	if w.spans == nil {
		w.spans = map[codeRun]bool{}
	}
	w.spans[run] = true
	return node
}

// remaining returns how many bytes of a block follow a position.
func remaining(block ast.Node, at text.Segment) int {
	if block.Type() != ast.TypeBlock {
		return at.Len()
	}
	lines := block.Lines()
	if lines == nil || lines.Len() == 0 {
		return at.Len()
	}
	return max(lines.At(lines.Len()-1).Stop-at.Start, 0)
}

// linkParser counts what is looked at to find a link's text, address and title.
type linkParser struct{ parser.InlineParser }

func (l linkParser) Parse(parent ast.Node, block text.Reader, pc parser.Context) ast.Node {
	w := workOf(pc)
	line, segment := block.PeekLine()
	w.spend(2)
	if line[0] == '[' || len(line) > 1 && line[1] == '[' {
		if w.brackets++; w.brackets > maxBrackets {
			panic(stopped{errTooComplex})
		}
	}
	if line[0] == ']' {
		w.spend(parent.ChildCount() / 8)
		if len(line) > 1 && (line[1] == '(' || line[1] == '[') {
			node := l.InlineParser.Parse(parent, block, pc)
			if _, end := block.Position(); node != nil {
				w.spend(max(end.Start-segment.Start, 0) / 8)
			} else {
				w.spend(remaining(parent, segment) / 8)
			}
			return node
		}
	}
	return l.InlineParser.Parse(parent, block, pc)
}

// CloseBlock implements parser.CloseBlocker.
func (l linkParser) CloseBlock(parent ast.Node, block text.Reader, pc parser.Context) {
	l.InlineParser.(parser.CloseBlocker).CloseBlock(parent, block, pc)
}

// delimiterParser reads emphasis or strikethrough. It counts how often an
// opening and a closing delimiter are compared, and keeps those out of the
// comparison that can be neither.
type delimiterParser struct {
	chars string
	node  func(length int) ast.Node
}

func (d delimiterParser) Trigger() []byte { return []byte(d.chars) }

func (d delimiterParser) Parse(_ ast.Node, block text.Reader, pc parser.Context) ast.Node {
	before := block.PrecendingCharacter()
	line, segment := block.PeekLine()
	w := workOf(pc)
	node := parser.ScanDelimiter(line, before, 1, countedDelimiters{d, w})
	if node == nil || d.chars == "~" && (node.OriginalLength > 2 || before == '~') {
		w.spend(2)
		return nil
	}
	w.spend(2 + node.OriginalLength/8)
	node.Segment = segment.WithStop(segment.Start + node.OriginalLength)
	block.Advance(node.OriginalLength)
	if !node.CanOpen && !node.CanClose {
		return ast.NewTextSegment(node.Segment)
	}
	pc.PushDelimiter(node)
	return node
}

type countedDelimiters struct {
	delimiterParser
	work *work
}

func (d countedDelimiters) IsDelimiter(b byte) bool { return bytes.IndexByte([]byte(d.chars), b) >= 0 }

func (d countedDelimiters) CanOpenCloser(opener, closer *parser.Delimiter) bool {
	d.work.spend(1)
	return opener.Char == closer.Char
}

func (d countedDelimiters) OnMatch(consumes int) ast.Node { return d.node(consumes) }

// paragraphBound counts the cells that a table will have (each row gets as many as
// the header has, so that a short text could make a very large table), and the
// lines that definitions of links are cut out of.
type paragraphBound struct{}

// Transform implements parser.ParagraphTransformer; it changes nothing.
func (paragraphBound) Transform(node *ast.Paragraph, reader text.Reader, pc parser.Context) {
	w, lines, source := workOf(pc), node.Lines(), reader.Source()
	for i := range lines.Len() {
		segment := lines.At(i)
		line := segment.Value(source)
		w.spend(1 + len(line)/8)
		if bytes.HasPrefix(bytes.TrimLeft(line, " "), []byte("[")) { // each is cut out of the paragraph
			w.spend(lines.Len() / 16)
		}
		if columns := bytes.Count(line, []byte("|")); columns > 0 && len(bytes.Trim(line, "|:- \t\r\n")) == 0 {
			w.spend((columns + 1) * (lines.Len() - i) * 4)
		}
		if escaped := bytes.Count(line, []byte(`\|`)); escaped > 0 {
			w.pipes += escaped
			w.spend(escaped * w.pipes / 4)
		}
	}
}
