// One conversation: its messages, and the reply that is being written.
import { $, h, announce, copyText, frame, iconButton, newID, pause, sleep, stored } from "./dom.js"
import { Problem, call, get, open, events, query, outside, outsideTitle, conversationId } from "./api.js"
import { show, foot, fillBody, reasoning, sourceList } from "./message.js"
import { trouble, sentence } from "./notice.js"
import { Draft } from "./draft.js"
import { composer } from "./composer.js"
import { live } from "./live.js"

const pageSize = 30
const messagesPath = '/api/chat/messages'

class Chat extends EventTarget {
  start() {
    this.log = $('log')
    this.list = $('messages')
    this.reset()
    this.log.addEventListener('scroll', () => this.scrolled(), { passive: true })
    new ResizeObserver(() => { if (this.atEnd) this.toEnd() }).observe(this.list)
    $('to-newest').addEventListener('click', () => { this.toEnd(true); composer.text.focus() })
    new IntersectionObserver((seen) => { if (seen.some((s) => s.isIntersecting)) this.loadOlder() }, { root: this.log, rootMargin: '600px 0px 0px' }).observe($('older'))
    composer.addEventListener('send', (e) => this.send(e.detail))
    composer.addEventListener('stop', () => this.stop())
    composer.addEventListener('edit-last', () => {
      const last = this.messages.findLast((m) => m.role === 'user')
      if (last) this.edit(this.element(last.id), last)
    })
    live.addEventListener('runs', (e) => this.runsChanged(e.detail))
    live.addEventListener('conversation', (e) => { if (e.detail.id === this.id) this.sync() })
    addEventListener('online', () => { this.online?.(); this.sync() })
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.sync() })
  }

  // reset leaves the conversation. What was asked for it is not shown any more.
  reset() {
    this.scope?.abort()
    this.scope = new AbortController()
    this.run?.draft.stop()
    this.run = null
    this.id = null
    this.conversation = null
    this.leaf = null // a branch that the user chose; null: the current one
    this.messages = [] // of the branch, oldest first
    this.more = false
    this.loaded = false
    this.atEnd = true
    this.top = 0
    this.list?.replaceChildren()
    if (this.list) $('older').hidden = true
    trouble.clear()
    composer.setBlocked(false)
    composer.setBusy(false)
  }

  get acts() {
    return {
      feedback: this.features?.feedback,
      branch: (id, m) => this.chooseBranch(id, m),
      copy: async (m) => { await copyText(m.content); announce('Copied') },
      edit: (el, m) => this.edit(el, m),
      regenerate: (m) => this.ask(m, 'regenerate'),
      goOn: (m) => this.ask(m, 'continue'),
      rate: (el, m, rating) => this.rate(el, m, rating),
    }
  }

  setFeatures(features) {
    this.features = features
    for (const m of this.messages) this.refoot(m)
  }

  // open shows a conversation; without an id, a new one that does not exist yet.
  async open(id, { message = null } = {}) {
    this.reset()
    const { signal } = this.scope
    this.id = id
    composer.use(id)
    $('empty').hidden = true
    if (!id) {
      this.loaded = true
      this.showEmpty()
      this.titled()
      return
    }
    this.list.append(skeleton())
    try {
      const [conversation, page] = await Promise.all([
        id === outside ? { id, title: outsideTitle } : get('/api/chat/conversations/' + encodeURIComponent(id), { signal }),
        this.page('current', signal),
      ])
      this.conversation = conversation
      this.titled()
      this.list.replaceChildren()
      await this.reconcile(page.messages, signal)
      this.loaded = true
      this.toEnd()
      this.showEmpty()
      this.join()
      this.restoreUnsent()
      if (message) await this.find(message)
    } catch (problem) {
      if (signal.aborted) return
      this.list.replaceChildren()
      this.failed(problem)
    }
  }

  // gone leaves a conversation that has been deleted elsewhere.
  gone(problem) {
    if (this.run) this.leaveRun()
    this.messages = []
    this.more = this.loaded = false
    this.list.replaceChildren()
    $('older').hidden = true
    this.failed(problem)
  }

  // restoreUnsent puts back what was not known to be taken when the page was
  // reloaded, unless it has been.
  restoreUnsent() {
    const text = unsent.take(this.id)
    if (text && !this.messages.slice(-6).some((m) => m.role === 'user' && m.content === text)) composer.restore(text)
  }

  failed(problem) {
    const gone = problem.status === 404
    this.conversation = null
    this.titled(gone ? 'Not found' : 'Conversation')
    $('empty').replaceChildren(
      h('h2', { text: gone ? 'There is no such conversation' : 'The conversation could not be loaded' }),
      h('p', { text: gone ? 'It may have been deleted, or belong to another account.' : sentence(problem) }),
      gone ? h('a', { class: 'button', href: '/', text: 'New conversation' })
        : h('button', { type: 'button', class: 'button', text: 'Try again', on: { click: () => this.open(this.id) } }))
    $('empty').hidden = false
    announce($('empty').textContent)
    this.dispatchEvent(new CustomEvent('problem', { detail: problem }))
  }

  page(leaf, signal, limit = pageSize) {
    return get(messagesPath + query({ conversationId: conversationId(this.id), leaf, limit, render: 'html' }), { signal })
  }

  titled(text) {
    const title = text ?? this.conversation?.title ?? (this.id && this.conversation ? 'Untitled' : 'New conversation')
    $('title').textContent = title
    document.title = title === 'New conversation' ? 'Parley' : title + ' · Parley'
    $('top-actions').hidden = !this.conversation || this.id === outside
    $('temporary-field').hidden = !!this.id
    this.dispatchEvent(new Event('titled'))
  }

  showEmpty() {
    const empty = this.loaded && this.messages.length === 0 && !this.run
    $('empty').hidden = !empty
    if (!empty) return
    $('empty').replaceChildren(h('h2', { text: 'What is on your mind?' }), h('p', { text: 'Ask a question, paste a picture, drop a file.' }))
    this.dispatchEvent(new Event('empty'))
  }

  element(id) { return this.list.querySelector(`:scope > [data-id="${CSS.escape(id)}"]`) }

  refoot(m) {
    const el = this.element(m.id)
    if (el) foot(el, m, this.acts)
  }

  // --- the history ---

  // sync brings what is shown in step with what is stored.
  async sync() {
    if (!this.id || !this.loaded || this.syncing) { this.again = !!this.syncing; return }
    const { signal } = this.scope
    this.syncing = true
    try {
      const page = await this.page(this.leaf ?? 'current', signal)
      if (this.run?.posted) return // it shows what it has asked for, and syncs at its end
      await this.reconcile(page.messages, signal)
      trouble.clear('offline')
      this.join()
      this.showEmpty()
    } catch (problem) {
      if (signal.aborted) return
      if (problem.code === 'OFFLINE') this.offline()
      else if (problem.status === 404 && this.leaf) { this.leaf = null; this.again = true } else if (problem.status === 404) this.gone(problem)
      else this.dispatchEvent(new CustomEvent('problem', { detail: problem }))
    } finally {
      this.syncing = false
      if (this.again && !signal.aborted) { this.again = false; this.sync() }
    }
  }

  // reconcile makes the messages those of a page of the branch, keeping the
  // elements of those that are shown already.
  async reconcile(fresh, signal) {
    // The reply that is followed is a new version of what comes behind its parent.
    const parent = this.run ? fresh.findIndex((m) => m.id === this.run.parent) : -1
    if (parent >= 0 && !fresh.some((m) => m.id === this.run.id)) fresh = fresh.slice(0, parent + 1)
    let keep = fresh.length ? this.messages.findIndex((m) => m.id === fresh[0].id) : 0
    if (keep < 0) keep = this.messages.findIndex((m) => m.id === fresh[0].parentId) + 1
    const old = this.messages
    const older = old.slice(0, keep)
    this.messages = [...older, ...fresh]
    const ids = new Set(this.messages.map((m) => m.id))
    for (const m of old) if (!ids.has(m.id)) this.element(m.id)?.remove()
    const pinned = this.atEnd
    let began = performance.now()
    let previous = older.length ? this.element(older.at(-1).id) : null
    for (const m of fresh) {
      const was = old.find((o) => o.id === m.id)
      let el = this.element(m.id)
      if (this.run?.el === el) {
        // The reply that is followed has ended: what is stored takes its place.
        if (!this.run.posted) this.leaveRun()
        el = null
      }
      if (!el || !was) {
        const made = show(m, this.acts)
        el?.remove()
        if (previous) previous.after(made)
        else this.list.prepend(made)
        el = made
      } else {
        if (was.siblings?.join() !== m.siblings?.join() || was.feedback?.rating !== m.feedback?.rating || was.metadata?.state !== m.metadata?.state) foot(el, m, this.acts)
        if (was.contentHtml !== m.contentHtml) fillBody(el.querySelector('.body'), m)
      }
      previous = el
      if (performance.now() - began > 12) {
        await pause()
        if (signal?.aborted) throw new DOMException('', 'AbortError')
        began = performance.now()
      }
    }
    if (this.run && !this.run.posted && this.run.parent !== this.messages.at(-1)?.id) this.leaveRun()
    this.more = !!this.messages[0]?.parentId
    $('older').hidden = !this.more
    if (pinned) this.toEnd()
    this.unanswered()
  }

  // unanswered offers to ask again where the last message has no reply.
  unanswered() {
    this.list.querySelector(':scope > .unanswered')?.remove()
    const last = this.messages.at(-1)
    if (!last || last.role !== 'user' || this.run || live.of(this.id)) return
    this.list.append(h('div', { class: 'unanswered' }, h('p', { text: 'This message has no reply yet.' }),
      h('button', { type: 'button', class: 'button', text: 'Ask for a reply', on: { click: () => this.ask(last, 'regenerate') } })))
  }

  async loadOlder() {
    if (!this.more || this.loadingOlder || !this.loaded) return
    this.loadingOlder = true
    const { signal } = this.scope
    try {
      const parent = this.messages[0].parentId
      const page = await this.page(parent, signal, 50)
      if (this.messages[0]?.parentId !== parent) return
      const made = []
      for (let began = performance.now(), i = page.messages.length - 1; i >= 0; i--) {
        made.unshift(show(page.messages[i], this.acts))
        if (performance.now() - began < 8 && made.length < 10 && i > 0) continue
        const before = this.log.scrollHeight
        const at = this.log.scrollTop
        this.list.prepend(...made)
        this.messages.unshift(...page.messages.slice(i, i + made.length))
        // The browser keeps the place by itself, unless it is at the very top.
        if (at < 1) this.log.scrollTop = this.log.scrollHeight - before
        made.length = 0
        await frame()
        if (signal.aborted) return
        began = performance.now()
      }
      this.more = !!this.messages[0].parentId
      $('older').hidden = !this.more
    } catch (problem) {
      if (!signal.aborted && problem.code === 'OFFLINE') this.offline()
    } finally {
      this.loadingOlder = false
      // The mark may still be in view, of which the observer says nothing more.
      if (this.more && !signal.aborted && $('older').getBoundingClientRect().bottom > -600) setTimeout(() => this.loadOlder(), 50)
    }
  }

  // find scrolls to a message of this conversation, which may be far up or on
  // another branch.
  async find(id) {
    const { signal } = this.scope
    for (let i = 0; i < 40 && this.more && !this.messages.some((m) => m.id === id); i++) {
      await this.loadOlder()
      if (signal.aborted) return
      if (this.loadingOlder) await sleep(20)
    }
    if (!this.messages.some((m) => m.id === id)) await this.chooseBranch(id)
    const el = this.element(id)
    if (!el) return
    this.atEnd = false
    el.scrollIntoView({ block: 'center' })
    el.classList.add('found')
    el.tabIndex = -1
    el.focus({ preventScroll: true })
    setTimeout(() => el.classList.remove('found'), 2500)
  }

  // chooseBranch shows the branch through a message, to its newest end.
  async chooseBranch(id, from) {
    const { signal } = this.scope
    try {
      if (this.run) this.leaveRun()
      this.leaf = await this.endBelow(id, signal)
      const page = await this.page(this.leaf, signal)
      const top = from && this.element(from.id)?.getBoundingClientRect().top
      this.atEnd = false
      await this.reconcile(page.messages, signal)
      const el = this.element(id)
      if (el && top !== undefined) {
        this.log.scrollTop += el.getBoundingClientRect().top - top
        el.querySelector('.versions button:not(:disabled)')?.focus({ preventScroll: true })
      }
      const m = this.messages.find((other) => other.id === id)
      if (m?.siblings) announce(`Version ${m.siblings.indexOf(id) + 1} of ${m.siblings.length}`)
      this.join()
      this.scrolled()
    } catch (problem) {
      if (!signal.aborted) this.trouble(problem)
    }
  }

  // endBelow finds the newest message below one: it reads the thread back from
  // its newest message, since whatever is below is newer.
  async endBelow(id, signal) {
    const children = new Map() // newest child by parent
    for (let before = ''; ;) {
      const page = await get(messagesPath + query({ conversationId: conversationId(this.id), limit: 100, before }), { signal })
      let found = false
      for (const m of page.messages.toReversed()) {
        if (m.parentId && !children.has(m.parentId)) children.set(m.parentId, m.id)
        if (m.id === id) { found = true; break }
      }
      if (found || !page.pagination.hasMore) break
      before = page.pagination.before
    }
    let end = id
    while (children.has(end)) end = children.get(end)
    return end
  }

  // --- replies ---

  // runsChanged follows what another tab or device has begun, and takes in what
  // has ended without this tab.
  runsChanged({ runs, snapshot }) {
    if (!this.id || !this.loaded) return
    if (snapshot) { this.sync(); return }
    for (const run of runs) {
      if (run.conversationId !== this.id || this.run?.id === run.runId || this.run?.posted) continue
      this.sync()
      return
    }
  }

  // join follows the live reply to the last message, if there is one.
  join() {
    const run = live.of(this.id)
    if (!run || this.run) { this.unanswered(); return }
    const at = this.messages.findIndex((m) => m.id === run.parentId)
    if (at < 0 || (this.leaf && at !== this.messages.length - 1)) return
    if (this.messages.some((m) => m.id === run.runId)) return
    this.dropAfter(at)
    this.list.querySelector(':scope > .unanswered')?.remove()
    this.beginRun({ id: run.runId, parent: run.parentId, posted: false })
    this.follow(this.run, null)
  }

  dropAfter(at) {
    for (const m of this.messages.splice(at + 1)) this.element(m.id)?.remove()
  }

  // beginRun shows a reply that has no text yet.
  beginRun({ id = null, parent, posted }) {
    this.list.querySelector(':scope > .unanswered')?.remove()
    const text = h('div', { class: 'text' })
    const body = h('div', { class: 'body' }, h('div', { class: 'thinking' }, h('span', { class: 'sr', text: 'The reply is being written' }), h('i'), h('i'), h('i')), text)
    const el = h('article', { class: 'message assistant streaming', 'aria-busy': 'true', data: { id: id ?? '' } },
      h('h2', { class: 'who' }, h('span', { text: composer.models?.find((m) => m.id === $('model').value)?.model || 'Assistant' })), body, h('div', { class: 'foot' }))
    this.list.append(el)
    const run = { id, parent, posted, el, body, text, cursor: -1, thought: null, sources: [], scope: new AbortController(), draft: new Draft(text, () => this.atEnd && this.toEnd()) }
    this.scope.signal.addEventListener('abort', () => run.scope.abort(), { once: true })
    this.run = run
    composer.setBusy(true)
    this.showEmpty()
    if (this.atEnd) this.toEnd()
    announce('The reply is being written')
    return run
  }

  // leaveRun stops following; the reply itself goes on.
  leaveRun() {
    this.run.scope.abort()
    this.run.draft.stop()
    this.run.el.remove()
    this.run = null
    composer.setBusy(false)
  }

  // follow reads a reply to its end: from a response that streams it, and after a
  // broken connection from where that had come to. It returns false if the
  // connection broke before it was known which reply it is.
  async follow(run, response) {
    const { signal } = run.scope
    let over = false
    for (let wait = 300; ; wait = Math.min(wait * 2, 10_000)) {
      try {
        if (!response) {
          response = await open('GET', `${messagesPath}/${run.id}/stream` + query({ render: 'html', after: run.cursor < 0 ? null : run.cursor }), { signal })
          if (response.status === 204) break
        }
        trouble.clear('offline')
        for await (const { id, data } of events(response)) { // to its end, so that the connection can be used again
          if (signal.aborted) return true
          if (over) continue
          if (data.type === 'reconnect') break
          if (id !== null) run.cursor = id
          wait = 300
          if (data.type === 'error' && data.code === 'UNAUTHORIZED') throw new Problem(401, { error: { code: data.code }, detail: data.error }, 0)
          over = this.take(run, data) || over
        }
      } catch (problem) {
        if (over || signal.aborted || problem.name === 'AbortError') return true
        if (problem.status === 401) { this.dispatchEvent(new CustomEvent('problem', { detail: problem })); return true }
        if (problem.status === 404 || problem.status === 400) break
        this.offline(problem.code)
        wait = Math.max(wait, problem.retryAfter * 1000)
      }
      if (over) return true
      response = null
      if (!run.id) return false // it is not known whether the request was taken
      await this.wait(wait, signal)
      if (signal.aborted) return true
    }
    // There is nothing to follow any more: the history has the reply.
    if (this.run === run) this.leaveRun()
    this.sync()
    return true
  }

  // wait waits for a while, or until the browser is online again.
  wait(ms, signal) {
    return Promise.race([sleep(ms, signal), new Promise((resolve) => { this.online = resolve })])
  }

  offline(code = 'OFFLINE') {
    if (code === 'OFFLINE') trouble.show(navigator.onLine ? 'There is no connection to the server. Trying again …' : sentence({ code: 'OFFLINE', body: {} }), { key: 'offline', kind: 'calm' })
  }

  // take shows one event of a reply, and reports whether it was the last one.
  take(run, e) {
    switch (e.type) {
      case 'start':
        run.id = e.runId
        run.el.dataset.id = e.runId
        if (run.sent) this.accepted(run, e.userMessage)
        if (run.stopWanted) this.stop()
        return false
      case 'reasoning':
        if (!run.thought) {
          run.thought = reasoning('')
          run.thought.label.textContent = 'Thinking …'
          run.body.insertBefore(run.thought.el, run.text)
        }
        run.thought.body.append(e.content)
        return false
      case 'chunk':
        run.body.querySelector('.thinking')?.remove()
        if (run.thought) run.thought.label.textContent = 'Reasoning'
        run.draft.append(e.content)
        return false
      case 'part':
        run.sources.push(e.part)
        if (e.part.type === 'source') {
          run.body.querySelector(':scope > .sources')?.remove()
          run.body.append(sourceList(run.sources.filter((p) => p.type === 'source')))
        }
        return false
      case 'end':
      case 'error':
        this.ended(run, e)
        return true
    }
    return false
  }

  // ended puts the stored reply in the place of what was streamed.
  ended(run, e) {
    run.draft.flush()
    const pinned = this.atEnd
    const m = e.assistantMessage
    if (this.run === run) this.run = null
    composer.setBusy(false)
    if (m) {
      m.siblings ??= [m.id]
      const parent = this.messages.findIndex((other) => other.id === m.parentId)
      if (parent >= 0 && parent === this.messages.length - 1) this.messages.push(m)
      const open = run.thought?.el.open
      const el = show(m, this.acts)
      if (open) el.querySelector('details.reasoning')?.setAttribute('open', '')
      const focused = run.el.contains(document.activeElement)
      run.el.replaceWith(el)
      if (focused) this.log.focus({ preventScroll: true })
    } else run.el.remove()
    if (run.posted) this.leaf = null
    if (e.type === 'error') {
      if (e.state === 'failed') this.aiFailed(e)
    } else if (e.state === 'stopped') announce('The reply was stopped')
    if (m && e.type === 'end' && e.state !== 'stopped') announce('Reply: ' + m.content.slice(0, 2000))
    if (pinned) this.toEnd()
    this.unanswered()
    this.sync()
    this.dispatchEvent(new Event('reply-ended'))
  }

  // aiFailed says that the provider did not answer, and offers to ask again.
  aiFailed(e, retryAfter = 0) {
    const last = this.messages.findLast((m) => m.role === 'user')
    trouble.show(sentence({ code: e.code, body: {}, message: e.error }), {
      kind: 'bad', wait: retryAfter, action: last ? { label: 'Try again', run: () => this.ask(last, 'regenerate') } : null, key: 'ai ' + e.runId,
    })
  }

  // --- what the user does ---

  async send({ text, files }) {
    trouble.clear()
    const scope = this.scope
    const { signal } = scope
    const draftKey = composer.draftKey
    const back = () => {
      if (!signal.aborted) composer.restore(text, files)
      else stored.set(draftKey, text)
    }
    const id = newID()
    try {
      if (!this.id) await this.create(id)
    } catch (problem) {
      if (signal.aborted) return
      back()
      this.trouble(problem, 'warn', () => composer.submit())
      return
    }
    if (signal.aborted) return
    unsent.keep(this.id, text) // until it has been taken
    const parent = this.messages.at(-1)?.id
    const body = { content: text, conversationId: conversationId(this.id), id, ...composer.model }
    if (files.length) body.files = files.map((f) => f.id)
    if (parent) body.parentId = parent
    this.list.querySelector(':scope > .unanswered')?.remove()
    this.append({ id, role: 'user', content: text, createdAt: new Date().toISOString(), parentId: parent ?? null, parts: files.length ? files : undefined })
    this.atEnd = true
    const conversation = this.id
    await this.post('POST', '/api/chat/stream', body, id, parent, () => {
      unsent.keep(conversation, null)
      this.remove(id)
      back()
    }, () => unsent.keep(conversation, null))
  }

  // create makes the conversation of a first message.
  async create(message) {
    const id = newID()
    const temporary = $('temporary').checked
    this.conversation = await call('POST', '/api/chat/conversations', { body: temporary ? { id, temporary } : { id }, signal: this.scope.signal, headers: { 'Idempotency-Key': message + '-c' } })
    this.id = this.conversation.id
    composer.draftKey = 'draft.' + this.id
    $('temporary').checked = false
    this.titled()
    this.dispatchEvent(new CustomEvent('created', { detail: this.conversation }))
  }

  append(m) {
    m.siblings ??= [m.id]
    this.messages.push(m)
    const el = show(m, null)
    el.classList.add('sending')
    this.list.append(el)
    this.showEmpty()
    this.toEnd()
  }

  remove(id) {
    this.messages = this.messages.filter((m) => m.id !== id)
    this.element(id)?.remove()
    this.showEmpty()
  }

  // post asks for a reply and follows it. A request that got no answer is sent
  // again under the same key, so that it counts once. refused is called when the
  // request was not taken, taken when it was.
  async post(method, path, body, key, parent, refused, taken = () => {}) {
    const { signal } = this.scope
    const run = this.beginRun({ parent, posted: true })
    run.sent = true
    run.taken = taken
    for (let wait = 500; ; wait = Math.min(wait * 2, 10_000)) {
      try {
        const response = await open(method, path + '?render=html', { body, headers: { 'Idempotency-Key': key }, signal: run.scope.signal })
        if (signal.aborted || await this.follow(run, response)) return
        await this.wait(wait, run.scope.signal)
      } catch (problem) {
        if (signal.aborted) return
        if (problem.name === 'AbortError') { // the user stopped before it was taken
          if (this.run === run) this.leaveRun()
          refused()
          return
        }
        if (problem.code === 'OFFLINE') {
          this.offline()
          run.waiting = true
          await this.wait(wait, run.scope.signal)
          run.waiting = false
          continue
        }
        if (this.run === run) this.leaveRun()
        if (problem.body.userMessage || problem.body.runId && problem.code.startsWith('AI_')) { // it is kept
          taken()
          if (problem.body.userMessage) this.accepted(run, problem.body.userMessage)
          this.aiFailed({ code: problem.code, error: problem.message, runId: problem.body.runId }, problem.retryAfter)
          this.sync()
          return
        }
        refused()
        this.trouble(problem, 'warn')
        if (problem.code === 'REPLY_IN_PROGRESS' || problem.status === 404) { this.again = false; this.sync() }
        return
      }
    }
  }

  // accepted: the message is stored.
  accepted(run, m) {
    run.taken?.()
    run.taken = null
    if (!m) return
    const at = this.messages.findIndex((other) => other.id === m.id)
    if (at >= 0) {
      m.siblings ??= this.messages[at].siblings
      this.messages[at] = m
      const el = this.element(m.id)
      if (el) {
        el.classList.remove('sending')
        fillBody(el.querySelector('.body'), m)
        foot(el, m, this.acts)
      }
    }
    this.leaf = null // the branch is the current one now
    live.tell({ type: 'conversation', id: this.id })
    this.dispatchEvent(new Event('sent'))
  }

  // trouble shows why something was refused; while waiting helps, nothing can be sent.
  trouble(problem, kind = 'warn', again = null) {
    if (problem.name === 'AbortError') return
    if (problem.status === 401) { this.dispatchEvent(new CustomEvent('problem', { detail: problem })); return }
    const wait = problem.retryAfter
    const limits = ['RATE_LIMITED', 'OVERLOADED', 'QUEUE_FULL', 'UNAVAILABLE', 'CHAT_DISABLED', 'AI_UNAVAILABLE'].includes(problem.code) && wait > 0 && wait < 7200
    if (limits) composer.setBlocked(true)
    trouble.show(sentence(problem), { kind, wait: limits ? wait : 0, over: () => composer.setBlocked(false), action: again && { label: 'Try again', run: again } })
  }

  // ask asks for another reply to a message, or for the rest of one.
  async ask(m, act) {
    if (this.run) return
    trouble.clear()
    const at = this.messages.findIndex((other) => other.id === m.id)
    const keep = m.role === 'user' ? at : at - 1
    if (keep < 0) return
    const dropped = this.messages.slice(keep + 1)
    this.dropAfter(keep)
    if (this.leaf) this.leaf = this.messages.at(-1).id
    this.atEnd = true
    await this.post('POST', `${messagesPath}/${encodeURIComponent(m.id)}/${act}`, { stream: true, ...composer.model }, newID(), this.messages[keep].id, () => {
      for (const other of dropped) { this.messages.push(other); this.list.append(show(other, this.acts)) }
      this.leaf = this.leaf && dropped.length ? dropped.at(-1).id : this.leaf
    })
  }

  // edit turns a message of the user's into a field.
  edit(el, m) {
    if (this.run || !el || el.querySelector('.edit')) return
    const area = h('textarea', { class: 'edit-text', 'aria-label': 'Edit the message', maxlength: '10000', rows: '3' })
    area.value = m.content
    const body = el.querySelector('.body')
    const line = el.querySelector(':scope > .foot')
    const close = (focus = true) => {
      form.remove()
      body.hidden = line.hidden = false
      if (focus) el.querySelector('.tools [aria-label="Edit"]')?.focus()
    }
    const form = h('form', { class: 'edit' }, area, h('div', { class: 'edit-row' },
      h('button', { type: 'button', class: 'quiet', text: 'Cancel', on: { click: () => close() } }),
      h('button', { type: 'submit', class: 'button', text: 'Send' })))
    form.addEventListener('submit', (e) => {
      e.preventDefault()
      const text = area.value
      if (!text.trim() || this.run) return
      close(false)
      this.resend(m, text)
      composer.text.focus()
    })
    area.addEventListener('keydown', (e) => {
      if (e.key === 'Escape') { e.stopPropagation(); close() }
      if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) { e.preventDefault(); form.requestSubmit() }
    })
    body.hidden = line.hidden = true
    el.append(form)
    area.focus()
    area.setSelectionRange(area.value.length, area.value.length)
  }

  // resend sends an edited message beside the one that it replaces.
  async resend(m, text) {
    trouble.clear()
    const at = this.messages.findIndex((other) => other.id === m.id)
    if (at < 0) return
    const dropped = this.messages.slice(at)
    this.dropAfter(at - 1)
    const id = newID()
    const files = (m.parts ?? []).filter((p) => p.type === 'file')
    const body = { content: text, id, stream: true, ...composer.model }
    if (files.length) body.files = files.map((f) => f.id)
    this.append({ id, role: 'user', content: text, createdAt: new Date().toISOString(), parentId: m.parentId, parts: files.length ? files : undefined, siblings: [...(m.siblings ?? [m.id]), id] })
    if (this.leaf) this.leaf = id
    this.atEnd = true
    await this.post('PATCH', `${messagesPath}/${encodeURIComponent(m.id)}`, body, id, id, () => {
      this.remove(id)
      for (const other of dropped) { this.messages.push(other); this.list.append(show(other, this.acts)) }
      if (this.leaf) this.leaf = dropped.at(-1).id
      const el = this.element(m.id)
      this.edit(el, m)
      const area = el?.querySelector('.edit-text')
      if (area) area.value = text
    })
  }

  async stop() {
    const run = this.run
    if (!run) return
    if (!run.id) { // it cannot be named yet
      run.stopWanted = true
      if (run.waiting) run.scope.abort()
      return
    }
    try {
      await call('POST', `${messagesPath}/${run.id}/stop`)
    } catch (problem) {
      if (problem.status !== 404 && problem.status !== 409) this.trouble(problem)
    }
  }

  async rate(el, m, rating) {
    const path = `${messagesPath}/${encodeURIComponent(m.id)}/feedback`
    try {
      if (rating) m.feedback = await call('PUT', path, { body: { rating } })
      else { await call('DELETE', path); m.feedback = null }
    } catch (problem) {
      this.trouble(problem)
      return
    }
    foot(el, m, this.acts)
    announce(rating === 'up' ? 'Rated as good' : rating === 'down' ? 'Rated as poor' : 'Rating removed')
    if (rating === 'down') this.askReason(el, m, path)
    else el.querySelector(`.thumb[aria-label="${rating === 'up' ? 'Good' : 'Poor'} reply"]`)?.focus({ preventScroll: true })
  }

  askReason(el, m, path) {
    const input = h('input', { type: 'text', maxlength: '500', 'aria-label': 'What was wrong? (optional)', placeholder: 'What was wrong? (optional)' })
    const form = h('form', { class: 'reason' }, input, h('button', { type: 'submit', class: 'quiet', text: 'Send' }), iconButton('close', 'Close', () => form.remove()))
    form.addEventListener('submit', async (e) => {
      e.preventDefault()
      try {
        if (input.value.trim()) m.feedback = await call('PUT', path, { body: { rating: 'down', reason: input.value.trim() } })
        form.replaceChildren(h('span', { text: 'Thank you.' }))
        announce('Thank you')
        setTimeout(() => form.remove(), 2000)
      } catch (problem) { this.trouble(problem) }
    })
    el.querySelector(':scope > .foot').append(form)
    input.focus({ preventScroll: true })
  }

  // --- the place in the log ---

  scrolled() {
    const rest = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight
    // Messages grow when they come into view: only going up leaves the end.
    if (rest < 80) this.atEnd = true
    else if (this.log.scrollTop < this.top - 1) this.atEnd = false
    this.top = this.log.scrollTop
    $('to-newest').hidden = this.atEnd || rest < 400
  }

  toEnd(smooth) {
    this.atEnd = true
    this.log.scrollTo({ top: this.log.scrollHeight, behavior: smooth && !matchMedia('(prefers-reduced-motion: reduce)').matches ? 'smooth' : 'instant' })
    this.top = this.log.scrollTop
    $('to-newest').hidden = true
  }
}

// unsent keeps the text of a message that is on its way, for a reload of this tab.
const unsent = {
  keep(conversation, text) {
    try {
      if (text === null) sessionStorage.removeItem('parley.unsent.' + conversation)
      else sessionStorage.setItem('parley.unsent.' + conversation, text)
    } catch { /* without storage a reload loses it */ }
  },
  take(conversation) {
    try {
      const text = sessionStorage.getItem('parley.unsent.' + conversation)
      this.keep(conversation, null)
      return text
    } catch { return null }
  },
}

function skeleton() {
  return h('div', { class: 'skeleton', 'aria-hidden': 'true' }, ...[60, 90, 75, 40].map((n) => h('span', { class: 'w' + n })))
}

export const chat = new Chat()
