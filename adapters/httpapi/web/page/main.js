// The page: puts its parts together, and shows what the address means.
import { $, h, icon, announce } from "./dom.js"
import { call, features, outside } from "./api.js"
import { trouble, sentence } from "./notice.js"
import { live } from "./live.js"
import { composer } from "./composer.js"
import { chat } from "./chat.js"
import { sidebar } from "./sidebar.js"
import { confirm, share, usage, drawUsage } from "./dialogs.js"
import { openShare } from "./share.js"

const conversationPath = (id) => '/api/chat/conversations/' + encodeURIComponent(id)

function route() {
  const parameters = new URLSearchParams(location.search)
  const id = parameters.get('c') || null
  if (id === chat.id && chat.loaded) {
    if (parameters.get('m')) chat.find(parameters.get('m'))
    return
  }
  sidebar.select(id)
  return chat.open(id, { message: parameters.get('m') })
}

function go(address, { focus = true } = {}) {
  if (address !== location.pathname + location.search) history.pushState(null, '', address)
  sidebar.close()
  route()
  if (focus && !matchMedia('(pointer: coarse)').matches) composer.text.focus()
}

// signedOut says that there is no session, and how to get one.
let out = false
function signedOut() {
  if (out) return
  out = true
  const where = document.querySelector('meta[name="sign-in"]').content
  $('list-note').textContent = ''
  $('empty').replaceChildren(h('h2', { text: 'You are not signed in' }),
    h('p', { text: where ? 'Sign in to the app, then come back to this page.' : 'Your session has ended, or there is none yet.' }),
    h('div', { class: 'empty-row' }, where ? h('a', { class: 'button', href: where, text: 'Sign in' }) : null,
      h('button', { type: 'button', class: where ? 'quiet' : 'button', text: 'Reload', on: { click: () => location.reload() } })))
  $('empty').hidden = false
  $('messages').replaceChildren()
  $('older').hidden = true
  document.documentElement.dataset.signedOut = ''
  trouble.clear()
  announce('You are not signed in')
}

const onProblem = (e) => { if (e.detail.status === 401) signedOut() }

function rename() {
  const input = $('title-input')
  const done = async (save) => {
    if (input.hidden) return
    input.hidden = true
    $('title').hidden = false
    $('rename').focus()
    const title = input.value.trim()
    if (!save || !title || title === chat.conversation.title) return
    try {
      chat.conversation = await call('PATCH', conversationPath(chat.id), { body: { title } })
      chat.titled()
      announce('Renamed')
      live.tell({ type: 'conversations' })
      sidebar.refresh()
    } catch (problem) {
      trouble.show(sentence(problem))
    }
  }
  input.value = chat.conversation.title ?? ''
  input.hidden = false
  $('title').hidden = true
  input.focus()
  input.select()
  input.onkeydown = (e) => {
    if (e.key === 'Enter' && !e.isComposing) done(true)
    if (e.key === 'Escape') { e.stopPropagation(); done(false) }
  }
  input.onblur = () => done(true)
}

async function remove() {
  const { id, title } = chat.conversation
  if (!(await confirm('Delete this conversation?', `“${title ?? 'Untitled'}” and all its messages will be deleted. This cannot be undone.`, 'Delete'))) return
  try {
    await call('DELETE', conversationPath(id))
  } catch (problem) {
    if (problem.status !== 404) { trouble.show(sentence(problem)); return }
  }
  announce('Deleted')
  live.tell({ type: 'conversations' })
  live.tell({ type: 'conversation', id })
  sidebar.refresh()
  go('/')
}

function keys(e) {
  if (document.querySelector('dialog[open]') || e.isComposing) return
  const command = e.ctrlKey || e.metaKey
  if (e.key === 'Escape') {
    if (document.documentElement.classList.contains('sidebar-open')) sidebar.close()
    else if (chat.run) chat.stop()
  } else if (command && e.key.toLowerCase() === 'k' && !$('search-field').hidden) {
    e.preventDefault()
    if (sidebar.narrow.matches) $('open-sidebar').click()
    $('search').focus()
  } else if (command && e.shiftKey && e.key.toLowerCase() === 'o') {
    e.preventDefault()
    go('/')
  }
}

function start() {
  for (const [id, name] of [['rename', 'edit'], ['share', 'share'], ['export', 'export'], ['delete', 'trash']]) $(id).append(icon(name))
  composer.start()
  chat.start()
  sidebar.start()
  for (const source of [chat, sidebar]) source.addEventListener('problem', onProblem)
  live.addEventListener('signed-out', signedOut)

  $('new').addEventListener('click', () => go('/'))
  $('rename').addEventListener('click', rename)
  $('title').addEventListener('dblclick', () => { if (chat.conversation && chat.id !== outside) rename() })
  $('delete').addEventListener('click', remove)
  $('share').addEventListener('click', () => share(chat.conversation, chat.messages.at(-1)?.id))
  $('usage').addEventListener('click', usage)
  chat.addEventListener('titled', () => { if (chat.id && chat.id !== outside) $('export').href = conversationPath(chat.id) + '/export' })
  chat.addEventListener('created', () => {
    history.pushState(null, '', '/?c=' + encodeURIComponent(chat.id))
    sidebar.select(chat.id)
  })
  chat.addEventListener('sent', () => sidebar.refreshSoon())
  chat.addEventListener('reply-ended', () => { sidebar.refreshSoon(); drawUsage() })
  sidebar.addEventListener('refreshed', () => {
    const known = sidebar.list.find((c) => c.id === chat.id)
    if (known && chat.conversation && known.title !== chat.conversation.title) {
      chat.conversation = known
      chat.titled()
    }
  })
  addEventListener('popstate', route)
  addEventListener('keydown', keys)
  document.addEventListener('click', (e) => {
    const a = e.target.closest?.('a[href^="/"]')
    if (!a || a.download || a.target || e.defaultPrevented || e.button || e.ctrlKey || e.metaKey || e.shiftKey || !/^\/(\?|$)/.test(a.getAttribute('href'))) return
    e.preventDefault()
    go(a.getAttribute('href'), { focus: !a.closest('#results') })
  })

  route()
  sidebar.refresh()
  live.start()
  composer.loadModels().catch(() => {})
  drawUsage()
  const later = window.requestIdleCallback ?? ((f) => setTimeout(f, 200))
  later(async () => {
    const has = await features().catch(() => ({}))
    chat.setFeatures(has)
    $('search-field').hidden = !has.search
    $('share').hidden = !has.share
  })
  if (!matchMedia('(pointer: coarse)').matches) composer.text.focus()
}

if (document.documentElement.dataset.view === 'share') openShare(decodeURIComponent(location.pathname.split('/')[2] ?? ''))
else start()
