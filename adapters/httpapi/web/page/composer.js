// The message box: text, files, the model, and the button that sends or stops.
import { $, h, icon, iconButton, bytes, stored, announce } from "./dom.js"
import { get, upload } from "./api.js"
import { sentence } from "./notice.js"

class Composer extends EventTarget {
  start() {
    this.text = $('text')
    this.attachments = [] // {file, id, el, abort, failed}
    this.draftKey = 'draft.'
    this.blocked = false // until a countdown ends
    this.busy = false // a reply is being written
    $('send').append(icon('send'))
    $('stop').append(icon('stop'))
    $('attach').append(icon('attach'))
    $('composer').addEventListener('submit', (e) => { e.preventDefault(); this.submit() })
    $('stop').addEventListener('click', () => this.dispatchEvent(new Event('stop')))
    $('files').addEventListener('change', () => { this.attach($('files').files); $('files').value = '' })
    this.text.addEventListener('input', () => this.changed())
    this.text.addEventListener('keydown', (e) => {
      if (e.key === 'Enter' && !e.shiftKey && !e.isComposing && !e.altKey) {
        e.preventDefault()
        this.submit()
      } else if (e.key === 'ArrowUp' && !this.text.value && !e.isComposing) {
        e.preventDefault()
        this.dispatchEvent(new Event('edit-last'))
      }
    })
    this.text.addEventListener('paste', (e) => {
      const files = [...(e.clipboardData?.files ?? [])]
      if (!files.length) return
      e.preventDefault()
      this.attach(files)
    })
    let depth = 0
    const withFiles = (e) => [...(e.dataTransfer?.types ?? [])].includes('Files')
    addEventListener('dragenter', (e) => { if (withFiles(e)) { depth++; $('drop').hidden = false } })
    addEventListener('dragleave', (e) => { if (withFiles(e) && --depth <= 0) { depth = 0; $('drop').hidden = true } })
    addEventListener('dragover', (e) => { if (withFiles(e)) e.preventDefault() })
    addEventListener('drop', (e) => {
      if (!withFiles(e)) return
      e.preventDefault()
      depth = 0
      $('drop').hidden = true
      this.attach(e.dataTransfer.files)
      this.text.focus()
    })
    $('model').addEventListener('change', () => stored.set('model', $('model').value))
    this.changed()
  }

  // use keeps drafts apart by conversation.
  use(conversation) {
    for (const a of this.attachments) a.abort.abort()
    this.attachments = []
    this.draftKey = 'draft.' + (conversation ?? '')
    this.text.value = stored.get(this.draftKey) ?? ''
    this.showAttachments()
    this.changed()
  }

  changed() {
    stored.set(this.draftKey, this.text.value.trim() ? this.text.value : null)
    const length = [...this.text.value].length
    $('count').hidden = length < 9000
    $('count').textContent = `${length.toLocaleString()} of 10,000`
    this.text.classList.toggle('long', this.text.value.length > 2000)
    if (!CSS.supports('field-sizing', 'content')) {
      this.text.style.height = 'auto'
      this.text.style.height = this.text.scrollHeight + 'px'
    }
    this.update()
  }

  get ready() {
    const loading = this.attachments.some((a) => !a.id && !a.failed)
    const files = this.attachments.filter((a) => a.id).length
    return !this.blocked && !this.busy && !loading && (this.text.value.trim() !== '' || files > 0)
  }

  update() {
    $('send').disabled = !this.ready
    $('send').hidden = this.busy
    $('stop').hidden = !this.busy
  }

  setBusy(busy) {
    if (busy === this.busy) return
    const focused = document.activeElement === $('stop') || document.activeElement === $('send')
    this.busy = busy
    this.update()
    if (focused) this.text.focus()
  }

  setBlocked(blocked) {
    this.blocked = blocked
    this.update()
  }

  submit() {
    if (!this.ready) return
    const detail = { text: this.text.value, files: this.attachments.filter((a) => a.id).map((a) => a.part) }
    this.attachments = []
    this.text.value = ''
    this.showAttachments()
    this.changed()
    this.dispatchEvent(new CustomEvent('send', { detail }))
  }

  // restore puts back what was not sent, before what has been written since.
  restore(text, files) {
    this.text.value = text + (this.text.value ? '\n\n' + this.text.value : '')
    for (const part of files ?? []) this.attachments.push({ part, id: part.id, name: part.name, abort: new AbortController() })
    this.showAttachments()
    this.changed()
  }

  attach(files) {
    for (const file of files) {
      if (this.attachments.length >= 10) {
        announce('A message has at most 10 files')
        break
      }
      const a = { name: file.name || 'Pasted picture', size: file.size, abort: new AbortController(), progress: 0 }
      if (file.type.startsWith('image/')) a.preview = URL.createObjectURL(file)
      this.attachments.push(a)
      upload(file, (part) => { a.progress = part; a.bar?.style.setProperty('inline-size', `${Math.round(part * 100)}%`) }, a.abort.signal).then((part) => {
        Object.assign(a, { id: part.id, part: { type: 'file', ...part } })
        announce(`${a.name} attached`)
      }, (problem) => {
        if (problem.name === 'AbortError') return
        a.failed = problem.code === 'OFFLINE' ? 'The upload broke off.' : sentence(problem)
        announce(`${a.name}: ${a.failed}`)
      }).finally(() => { this.showAttachments(); this.update() })
    }
    this.showAttachments()
    this.update()
  }

  showAttachments() {
    $('attachments').hidden = this.attachments.length === 0
    $('attachments').replaceChildren(...this.attachments.map((a) => {
      a.bar = h('span', { class: 'bar' })
      if (a.progress) a.bar.style.inlineSize = `${Math.round(a.progress * 100)}%`
      return h('li', { class: 'attachment' + (a.failed ? ' failed' : a.id ? ' done' : '') },
        a.preview ? h('img', { src: a.preview, alt: '' }) : icon('file'),
        h('span', { class: 'file-name' }, h('span', { text: a.name }), h('small', { text: a.failed || (a.id ? bytes(a.part.size) : 'Uploading …') })),
        iconButton('close', `Remove ${a.name}`, () => {
          a.abort.abort()
          if (a.preview) URL.revokeObjectURL(a.preview)
          this.attachments = this.attachments.filter((other) => other !== a)
          this.showAttachments()
          this.update()
          this.text.focus()
        }),
        a.id || a.failed ? null : h('span', { class: 'progress', role: 'progressbar', 'aria-label': `Upload of ${a.name}` }, a.bar))
    }))
  }

  async loadModels() {
    const { models } = await get('/api/chat/models')
    this.models = models
    const chosen = stored.get('model')
    const note = (m) => (m.disabled ? ' (switched off)' : m.demo ? ' (not AI)' : m.state === 'open' ? ' (not answering)' : '')
    $('model').replaceChildren(...models.map((m) => h('option', { value: m.id, text: (m.model || m.provider) + note(m), selected: m.id === chosen || (m.default && !models.some((o) => o.id === chosen)) })))
    $('model-field').hidden = models.length === 0
    if (models.length === 1) $('model').disabled = true
  }

  // model is what a request says about the model: nothing for the default one.
  get model() {
    const m = this.models?.find((o) => o.id === $('model').value)
    return !m || m.default || !m.model ? {} : { provider: m.provider, model: m.model }
  }
}

export const composer = new Composer()
