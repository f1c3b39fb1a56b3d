package httpapi

import (
	"html"
	"strings"
)

// markup is HTML. Constants are written as they are, and escape is the only other
// way to make it, so that no text can become a tag. html/template would do the
// same, but a program that uses it keeps every exported method of every type
// (docs/adr/0070).
type markup string

// escape returns a text as HTML, in elements and in quoted attributes alike.
func escape(text string) markup { return markup(html.EscapeString(text)) }

// join writes parts one after the other.
func join(parts ...markup) markup {
	var b strings.Builder
	for _, part := range parts {
		b.WriteString(string(part))
	}
	return markup(b.String())
}

// each joins what show makes of each of a list.
func each[T any](list []T, show func(T) markup) markup {
	var b strings.Builder
	for _, one := range list {
		b.WriteString(string(show(one)))
	}
	return markup(b.String())
}

// when returns parts if a condition holds.
func when(condition bool, parts ...markup) markup {
	if !condition {
		return ""
	}
	return join(parts...)
}

// html writes the page.
func (r reference) html() markup {
	title := escape(r.Title)
	return join(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>`, title, ` API</title>
<link rel="stylesheet" href="`, escape(r.Style), `">
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<nav aria-label="Contents">
<p class="brand">`, title, ` <small>`, escape(r.Version), `</small></p>
`, each(r.Groups, referenceGroup.contents), `<h2>More</h2>
<ul><li><a href="#errors">Errors</a></li><li><a href="#schemas">Schemas</a></li><li><a href="/api/openapi.json">openapi.json</a></li></ul>
</nav>
<main id="main">
<h1>`, title, ` API</h1>
<p>`, escape(r.About), `</p>
<p>Requests need <code>Authorization: Bearer TOKEN</code> or the session cookie of your app, unless they are marked as public.</p>
`, each(r.Groups, referenceGroup.html), `<section id="errors">
<h2>Errors</h2>
<p>A refusal is <code>application/problem+json</code> (RFC 9457). On the routes of the AI SDK it is its sentence in plain text, with the code in <code>X-Error-Code</code>.</p>
`, each(r.Errors, referenceError.html), `</section>
<section id="schemas">
<h2>Schemas</h2>
`, each(r.Schemas, referenceSchema.html), `</section>
</main>
</body>
</html>
`)
}

// contents links to the operations of a group.
func (g referenceGroup) contents() markup {
	return join(`<h2>`, escape(g.Name), `</h2>
<ul>`, each(g.Operations, func(o referenceOperation) markup {
		return join(`<li><a href="#`, escape(o.ID), `">`, o.method(), ` `, escape(o.Summary), `</a></li>`)
	}), `</ul>
`)
}

func (g referenceGroup) html() markup {
	return join(`<section>
<h2>`, escape(g.Name), `</h2>
`, each(g.Operations, referenceOperation.html), `</section>
`)
}

func (o referenceOperation) method() markup {
	return join(`<span class="method `, escape(o.Method), `">`, escape(o.Method), `</span>`)
}

func (o referenceOperation) html() markup {
	return join(`<article id="`, escape(o.ID), `">
<h3>`, escape(o.Summary), `</h3>
<p class="address">`, o.method(), ` <code>`, escape(o.Path), `</code>`, when(o.Public, ` <span class="tag">public</span>`), `</p>
`, when(len(o.Parameters) > 0, `<h4>Parameters</h4>`, membersTable(o.Parameters)), `
`, when(len(o.Body) > 0, `<h4>Body</h4>`, each(o.Body, referenceContent.html)), `
`, each(o.Answers, func(a referenceAnswer) markup {
		return join(`<h4>`, escape(a.Status), ` `, escape(a.Text), `</h4>`, each(a.Contents, referenceContent.html))
	}), `
<h4>Refusals</h4>
<ul class="refusals">`, each(o.Refusals, func(r referenceRefusal) markup {
		return join(`<li><b>`, escape(r.Status), `</b>`, each(r.Codes, func(code string) markup {
			return join(` <a href="#error-`, escape(code), `">`, escape(code), `</a>`)
		}), `</li>`)
	}), `</ul>
</article>
`)
}

func (e referenceError) html() markup {
	return join(`<article id="error-`, escape(e.Code), `">
<h3><code>`, escape(e.Code), `</code> <span class="tag">`, escape(e.Status), `</span></h3>
<p>`, escape(e.Sentence), `</p>
`, details(e.Example), `
</article>
`)
}

func (s referenceSchema) html() markup {
	return join(`<article id="`, escape(s.Name), `">
<h3>`, escape(s.Name), `</h3>
`, membersTable(s.Members), `
</article>
`)
}

// membersTable is the table of parameters or members, or nothing for none.
func membersTable(list []referenceMember) markup {
	return when(len(list) > 0, `<div class="table" tabindex="0"><table>
<thead><tr><th scope="col">Name</th><th scope="col">Type</th><th scope="col">About</th></tr></thead>
<tbody>`, each(list, referenceMember.html), `</tbody>
</table></div>`)
}

func (m referenceMember) html() markup {
	return join(`<tr><th scope="row"><code>`, escape(m.Name), `</code>`, when(m.In != "", ` <small>`, escape(m.In), `</small>`),
		`</th><td><code>`, m.Type, `</code></td><td>`,
		when(m.Required, `<b>required</b>`, when(m.About != "", `, `)), escape(m.About), `</td></tr>`)
}

func (c referenceContent) html() markup {
	events := markup("")
	for i, event := range c.Events {
		events = join(events, map[bool]markup{true: `: events`, false: `,`}[i == 0], ` <code>`, event, `</code>`)
	}
	return join(`<p class="media"><code>`, escape(c.Media), `</code>`, when(c.Type != "", `: <code>`, c.Type, `</code>`), events, `</p>
`, membersTable(c.Members), `
`, when(c.Example != "", details(c.Example)))
}

// details is an example that is shown when its summary is clicked.
func details(example string) markup {
	return join(`<details><summary>Example</summary><pre tabindex="0">`, escape(example), `</pre></details>`)
}
