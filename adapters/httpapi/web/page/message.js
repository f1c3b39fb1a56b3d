// Shows messages: their parts, and what can be done with them.
import { h, icon, iconButton, bytes } from "./dom.js"
import { fragment, link, safeURL } from "./html.js"

// isFile reports whether an address is a file of this server. Nothing else is
// loaded by showing a message.
const isFile = (url) => /^\/api\/(chat|share\/[\w-]+)\/files\/[^/]+$/.test(url)

const modelName = (m) => m.metadata?.model || 'Assistant'

export function reasoning(text, open = false) {
  const body = h('div', { class: 'reasoning-text', text })
  const label = h('span', { text: 'Reasoning' })
  return { el: h('details', { class: 'reasoning', open }, h('summary', {}, label), body), body, label }
}

function filePart(part) {
  const caption = h('span', { class: 'file-name' }, h('span', { text: part.name || 'File' }), part.size ? h('small', { text: bytes(part.size) }) : null)
  if (!isFile(part.url ?? '')) return h('span', { class: 'file' }, icon('file'), caption)
  if (/^image\/(png|jpeg|gif|webp)$/.test(part.mediaType ?? '')) {
    const image = h('img', { src: part.url, alt: part.name || 'Picture', loading: 'lazy', decoding: 'async' })
    const el = h('a', { class: 'file picture', href: part.url, target: '_blank', rel: 'noopener' }, image)
    image.addEventListener('error', () => el.replaceChildren(icon('file'), caption))
    return el
  }
  return h('a', { class: 'file', href: part.url, download: part.name || true }, icon('file'), caption)
}

function sourcePart(part) {
  const host = safeURL(part.url) ? new URL(part.url, location.origin).hostname : ''
  return h('li', {}, link(part.url ?? '', part.title || part.url || 'Source'), host && part.title ? h('small', { text: ' ' + host }) : null)
}

// otherPart names a part that this page does not show.
function otherPart(part) {
  const tool = { 'tool-call': 'Tool call', 'tool-result': 'Tool result', approval: 'Approval' }[part.type]
  const el = h('details', { class: 'other ' + (tool ? 'tool' : '') },
    h('summary', { text: tool ? `${tool}: ${part.name || 'unnamed'}` : part.type === 'data' ? `Data: ${part.name || 'unnamed'}` : `A part of the type “${part.type}”, which this page cannot show` }))
  if (part.data !== undefined) el.append(h('pre', { tabindex: '0', text: JSON.stringify(part.data, null, 2) }))
  return el
}

// parts fills the body of a message.
export function fillBody(body, m) {
  body.replaceChildren()
  const parts = m.parts ?? []
  const of = (type) => parts.filter((p) => p.type === type)
  const thought = of('reasoning').map((p) => p.text ?? '').join('\n\n')
  if (thought) body.append(reasoning(thought).el)
  const files = of('file')
  if (files.length) body.append(h('div', { class: 'files' }, files.map(filePart)))
  const text = h('div', { class: 'text' })
  if (m.contentHtml) text.append(fragment(m.contentHtml))
  else text.append(h('p', { class: 'plain', text: m.content }))
  if (m.content) body.append(text)
  for (const p of parts) if (!['reasoning', 'file', 'text', 'source'].includes(p.type)) body.append(otherPart(p))
  const sources = of('source')
  if (sources.length) body.append(sourceList(sources))
}

export function sourceList(sources) {
  return h('section', { class: 'sources', 'aria-label': 'Sources' }, h('p', { class: 'sources-head', text: 'Sources' }), h('ol', {}, sources.map(sourcePart)))
}

// show makes the element of a message. acts are what the user can do with it;
// none in a shared conversation, where the author is not the reader.
export function show(m, acts, author = 'You') {
  const mine = m.role === 'user'
  const el = h('article', { class: 'message ' + (mine ? 'user' : 'assistant'), data: { id: m.id } })
  const time = new Date(m.createdAt)
  el.append(
    h('h2', { class: 'who' }, h('span', { text: mine ? author : modelName(m) }),
      Number.isNaN(time.getTime()) ? null : h('time', { datetime: m.createdAt, text: time.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }), title: time.toLocaleString() })),
    h('div', { class: 'body' }), h('div', { class: 'foot' }))
  fillBody(el.querySelector('.body'), m)
  foot(el, m, acts)
  return el
}

const states = {
  stopped: 'You stopped this reply.', interrupted: 'This reply was interrupted; its text so far is kept.', failed: 'The model could not finish this reply.',
}

// foot fills the line below a message: its state, its versions, what can be done.
export function foot(el, m, acts) {
  const mine = m.role === 'user'
  const line = h('div', { class: 'foot' })
  const state = mine ? null : states[m.metadata?.state]
  const notice = state ? h('p', { class: 'state ' + m.metadata.state, text: state }) : null
  if (acts) {
    const tools = h('div', { class: 'tools' })
    const at = (m.siblings ?? []).indexOf(m.id)
    if (m.siblings?.length > 1 && at >= 0) {
      const n = m.siblings.length
      tools.append(h('div', { class: 'versions', role: 'group', 'aria-label': 'Versions of this message' },
        iconButton('left', 'Earlier version', () => acts.branch(m.siblings[at - 1], m), { disabled: at === 0 }),
        h('span', { text: `${at + 1}/${n}`, role: 'img', 'aria-label': `Version ${at + 1} of ${n}` }),
        iconButton('right', 'Later version', () => acts.branch(m.siblings[at + 1], m), { disabled: at === n - 1 })))
    }
    tools.append(iconButton('copy', 'Copy', () => acts.copy(m)))
    if (mine) tools.append(iconButton('edit', 'Edit', () => acts.edit(el, m)))
    else {
      tools.append(iconButton('again', 'Regenerate', () => acts.regenerate(m)))
      if (['stopped', 'interrupted'].includes(m.metadata?.state)) {
        tools.append(h('button', { type: 'button', class: 'quiet', text: 'Continue', on: { click: () => acts.goOn(m) } }))
      }
      if (acts.feedback) {
        for (const [rating, label] of [['up', 'Good reply'], ['down', 'Poor reply']]) {
          const on = m.feedback?.rating === rating
          tools.append(iconButton(rating, label, () => acts.rate(el, m, on ? null : rating), { 'aria-pressed': String(on), class: 'icon-button thumb' + (on ? ' on' : '') }))
        }
      }
    }
    line.append(tools)
  }
  if (notice) line.prepend(notice)
  el.querySelector(':scope > .foot').replaceWith(line)
}
