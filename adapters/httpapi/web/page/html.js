// HTML of the server. It is sanitized there; here it is taken apart and built
// again from a list of elements, so that nothing else can get into the page.
import { h, iconButton, copyText, announce } from "./dom.js"
import { highlight } from "./highlight.js"

const elements = {
  P: [], BR: [], HR: [], EM: [], STRONG: [], DEL: [], CODE: [], PRE: [], BLOCKQUOTE: [], UL: [], OL: ['start'], LI: [],
  TABLE: [], THEAD: [], TBODY: [], TR: [], TH: ['align'], TD: ['align'], A: ['href'], MARK: [],
}

// safeURL returns an address that a link may lead to, or null.
export function safeURL(address) {
  try {
    const url = new URL(address, location.origin)
    return ['http:', 'https:', 'mailto:'].includes(url.protocol) ? url.href : null
  } catch {
    return null
  }
}

export function link(address, ...children) {
  const href = safeURL(address)
  return href ? h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow' }, ...children) : h('span', {}, ...children)
}

// fragment makes nodes of a message's HTML.
export function fragment(html) {
  const parsed = new DOMParser().parseFromString(html, 'text/html')
  const out = document.createDocumentFragment()
  let level = 2 // of the last heading: a message's own heading is 2
  const convert = (from, to) => {
    for (const node of from.childNodes) {
      if (node.nodeType === Node.TEXT_NODE) {
        to.append(node.data)
        continue
      }
      if (node.nodeType !== Node.ELEMENT_NODE) continue
      const heading = /^H([1-6])$/.exec(node.tagName)
      if (heading) {
        level = Math.min(Number(heading[1]) + 2, level + 1, 6)
        const el = h('h' + level, { class: 'heading heading-' + heading[1] })
        convert(node, el)
        to.append(el)
        continue
      }
      if (node.tagName === 'PRE') {
        to.append(codeBlock(node.textContent.replace(/\n$/, ''), /(?:^|\s)language-(\S+)/.exec(node.firstElementChild?.className ?? '')?.[1] ?? ''))
        continue
      }
      if (node.tagName === 'A') {
        const el = link(node.getAttribute('href') ?? '')
        convert(node, el)
        to.append(el)
        continue
      }
      const attributes = elements[node.tagName]
      if (!attributes) { // its text stays
        convert(node, to)
        continue
      }
      const el = document.createElement(node.tagName)
      for (const name of attributes) if (node.hasAttribute(name)) el.setAttribute(name, node.getAttribute(name))
      convert(node, el)
      if (node.tagName !== 'TABLE') {
        to.append(el)
        continue
      }
      to.append(h('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' }, el))
    }
  }
  convert(parsed.body, out)
  return out
}

// marked makes nodes of escaped text whose only markup is <mark>.
export function marked(html) {
  const out = document.createDocumentFragment()
  for (const node of new DOMParser().parseFromString(html, 'text/html').body.childNodes) {
    out.append(node.nodeName === 'MARK' ? h('mark', { text: node.textContent }) : node.textContent)
  }
  return out
}

// codeBlock shows code with its language and a button that copies it.
export function codeBlock(code, language) {
  const el = h('code', { text: code })
  const copy = iconButton('copy', 'Copy the code', async () => {
    await copyText(code)
    announce('Code copied')
  })
  highlight(el, language)
  return h('div', { class: 'code' },
    h('div', { class: 'code-head' }, h('span', { text: language || 'text' }), copy),
    h('pre', { tabindex: '0', role: 'region', 'aria-label': 'Code' + (language ? ', ' + language : '') }, el))
}
