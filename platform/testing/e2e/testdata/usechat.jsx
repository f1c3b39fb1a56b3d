// A page with useChat of the AI SDK as it comes: without a transport.
import { useChat } from '@ai-sdk/react'
import { image, Messages, mount, publish, stopReply } from './page.jsx'

function Chat({ chat }) {
  const { messages, setMessages, sendMessage, regenerate, stop } = chat
  const files = new DataTransfer()
  files.items.add(image())
  publish(chat, {
    send: (text) => sendMessage({ text }),
    sendImage: (text) => sendMessage({ text, files: files.files }),
    editByID: (at, text) => sendMessage({ text, messageId: messages[at].id }),
    editByTrimming(at, text) {
      setMessages(messages.slice(0, at))
      sendMessage({ text })
    },
    editInPlace(at, text) {
      setMessages([...messages.slice(0, at), { ...messages[at], parts: [{ type: 'text', text }] }])
      regenerate()
    },
    remove: (at) => setMessages(messages.filter((_, i) => i !== at)),
    retry: () => regenerate(),
    regenerate: (at) => regenerate({ messageId: messages[at].id }),
    regenerateByTrimming(at) {
      setMessages(messages.slice(0, at))
      regenerate()
    },
    stop: () => stopReply(chat.id),
    hangUp: () => stop(),
  })
  return <Messages messages={messages} />
}

const New = () => <Chat chat={useChat()} />
const Old = ({ id, messages }) => <Chat chat={useChat({ id, messages, resume: true })} />

mount(New, Old)
