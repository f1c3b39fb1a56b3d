// A reply while it is made. Its text comes in pieces of any size and is shown at
// an even pace, as Markdown as far as it can be told from what has come. The
// server's HTML replaces it at the end.
import { h } from "./dom.js"
import { link } from "./html.js"

const still = matchMedia('(prefers-reduced-motion: reduce)')

export class Draft {
  // el gets the text; changed is called after each change of what is shown.
  constructor(el, changed) {
    this.el = el
    this.changed = changed
    this.text = '' // all that has come
    this.shown = 0 // how much of it is shown
    this.settled = 0 // where the last block begins: those before do not change any more
    this.tail = null // element of the last block
    this.frame = 0
  }

  append(text) {
    this.text += text
    this.schedule()
  }

  schedule() {
    if (this.frame) return
    if (document.hidden || still.matches) { // there are no frames, or no motion is wanted
      this.show(this.text.length)
      return
    }
    this.frame = requestAnimationFrame(() => {
      this.frame = 0
      // A sixth of what waits each time: fast when much has come, and never a stop.
      const waiting = this.text.length - this.shown
      this.show(this.shown + Math.max(2, Math.ceil(waiting / 6)))
      if (this.shown < this.text.length) this.schedule()
    })
  }

  show(to) {
    to = Math.min(to, this.text.length)
    if (to < this.text.length && (this.text.charCodeAt(to) & 0xfc00) === 0xdc00) to++ // not within a character
    this.shown = to
    for (;;) {
      const source = this.text.slice(this.settled, this.shown)
      const end = blockEnd(source)
      this.render(end < 0 ? source : source.slice(0, end))
      if (end < 0) break
      this.settled += end
      this.tail = null
    }
    this.changed()
  }

  render(source) {
    const fence = /^\s*(`{3,}|~{3,})[^\n]*\n?/.exec(source)
    if (fence && this.tail?.classList.contains('code')) { // only grows
      const code = fenced(source, fence)
      const node = this.tail.lastElementChild.firstElementChild.firstChild
      if (code.startsWith(node.data)) node.appendData(code.slice(node.data.length))
      else node.data = code
      return
    }
    if (!source.trim()) return
    const block = renderBlock(source)
    if (this.tail) this.tail.replaceWith(block)
    else this.el.append(block)
    this.tail = block
  }

  // flush shows everything that has come.
  flush() {
    cancelAnimationFrame(this.frame)
    this.frame = 0
    this.show(this.text.length)
  }

  stop() {
    cancelAnimationFrame(this.frame)
    this.frame = 0
  }
}

// blockEnd returns where the first block of a text ends, or -1 while it may go on.
function blockEnd(source) {
  const fence = /^\s*(`{3,}|~{3,})[^\n]*\n/.exec(source)
  if (fence) {
    const close = new RegExp('\\n[ ]{0,3}' + fence[1][0] + '{' + fence[1].length + ',}[ \\t]*\\n').exec(source.slice(fence[0].length - 1))
    return close ? fence[0].length - 1 + close.index + close[0].length : -1
  }
  const blank = /\n[ \t]*\n/.exec(source)
  const begins = /\n(?=[ ]{0,3}(?:```|~~~))/.exec(source)
  const ends = [blank && blank.index + blank[0].length, begins && begins.index + 1].filter((n) => n)
  return ends.length ? Math.min(...ends) : -1
}

function fenced(source, fence) {
  return source.slice(fence[0].length).replace(/\n[ ]{0,3}(`{3,}|~{3,})[ \t]*\n?$/, '')
}

function renderBlock(source) {
  const fence = /^\s*(`{3,}|~{3,})([^\n]*)\n?/.exec(source)
  if (fence) {
    const code = h('code')
    code.append(document.createTextNode(fenced(source, fence)))
    return h('div', { class: 'code' },
      h('div', { class: 'code-head' }, h('span', { text: fence[2].trim().split(/\s/)[0] || 'text' })),
      h('pre', { tabindex: '0', role: 'region', 'aria-label': 'Code' }, code))
  }
  source = source.replace(/^\s*\n|\s+$/g, '')
  const heading = /^#{1,6} +(.*)$/.exec(source)
  if (heading) return inline(h('p', { class: 'heading heading-' + /^#+/.exec(source)[0].length }), heading[1])
  if (/^ {0,3}([-*_])( *\1){2,} *$/.test(source)) return h('hr')
  if (/^ {0,3}>/.test(source)) return h('blockquote', {}, renderBlock(source.replace(/^ {0,3}> ?/gm, '')))
  const item = /^ {0,3}([-*+]|\d{1,9}[.)])[ \t]+/
  if (item.test(source)) {
    const list = h(/^\s*\d/.test(source) ? 'ol' : 'ul')
    for (const text of source.split(/\n(?= {0,3}(?:[-*+]|\d{1,9}[.)])[ \t])/)) {
      const [first, ...rest] = text.replace(item, '').split(/\n(?=\s+(?:[-*+]|\d{1,9}[.)])[ \t])/)
      const el = inline(h('li'), first)
      if (rest.length) el.append(renderBlock(rest.join('\n').replace(/^\s{1,4}/gm, '')))
      list.append(el)
    }
    return list
  }
  const rows = source.split('\n')
  if (rows.length > 1 && /^[ |:-]*-[ |:-]*$/.test(rows[1]) && rows[0].includes('|')) {
    const cells = (row) => row.trim().replace(/^\||\|$/g, '').split('|')
    const line = (row, tag) => h('tr', {}, cells(row).map((cell) => inline(h(tag), cell.trim())))
    return h('div', { class: 'table' }, h('table', {}, h('thead', {}, line(rows[0], 'th')), h('tbody', {}, rows.slice(2).map((row) => line(row, 'td')))))
  }
  return inline(h('p'), source)
}

const marks = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*([^*\s](?:[\s\S]*?[^*\s])?)\*\*|\*([^*\s](?:[^*]*[^*\s])?)\*|~~([^~]+)~~|\[([^\]\n]+)\]\(([^)\s]+)\)|(https?:\/\/[^\s<>)]+)/g

// inline adds text with code, emphasis and links. What is open at the end is
// taken to go on, so that its marks do not show for a moment.
function inline(el, text) {
  const open = /(\*\*|`)(?=\S)([^*`]*)$/.exec(text)
  if (open && (text.split(open[1]).length - 1) % 2 === 1) text += open[1]
  let at = 0
  for (const m of text.matchAll(marks)) {
    if (m.index > at) el.append(text.slice(at, m.index))
    at = m.index + m[0].length
    if (m[2]) el.append(h('code', { text: m[2] }))
    else if (m[3]) el.append(inline(h('strong'), m[3]))
    else if (m[4]) el.append(inline(h('em'), m[4]))
    else if (m[5]) el.append(h('del', { text: m[5] }))
    else if (m[6]) el.append(link(m[7], m[6]))
    else el.append(link(m[8], m[8]))
  }
  if (at < text.length) el.append(text.slice(at))
  return el
}
