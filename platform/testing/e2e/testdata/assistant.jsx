// A page with assistant-ui on its default runtime for the AI SDK. That runtime
// begins a new chat with each page; a chat that exists is given to it by useChat.
import { AssistantRuntimeProvider, ThreadPrimitive } from '@assistant-ui/react'
import { useAISDKChat, useAISDKRuntime, useChatRuntime } from '@assistant-ui/react-ai-sdk'
import { useChat } from '@ai-sdk/react'
import { image, Messages, mount, publish, stopReply } from './page.jsx'

function Chat({ thread }) {
  const chat = useAISDKChat()
  if (!chat) return null
  const messageAt = (at) => thread.getMessageById(chat.messages[at].id)
  publish(chat, {
    send(text) {
      thread.composer.setText(text)
      thread.composer.send()
    },
    async sendImage(text) {
      await thread.composer.addAttachment(image())
      this.send(text)
    },
    editByTrimming(at, text) {
      const { composer } = messageAt(at)
      composer.beginEdit()
      composer.setText(text)
      composer.send()
    },
    remove: (at) => messageAt(at).delete(),
    retry: () => thread.startRun({ parentId: chat.messages.findLast((m) => m.role === 'user').id }),
    regenerate: (at) => messageAt(at).reload(),
    stop: () => stopReply(chat.id),
    hangUp: () => thread.cancelRun(),
  })
  return <Messages messages={chat.messages} />
}

const Page = ({ runtime }) => (
  <AssistantRuntimeProvider runtime={runtime}>
    <ThreadPrimitive.Root><Chat thread={runtime.thread} /></ThreadPrimitive.Root>
  </AssistantRuntimeProvider>
)

const New = () => <Page runtime={useChatRuntime()} />
const Old = ({ id, messages }) => <Page runtime={useAISDKRuntime(useChat({ id, messages, resume: true }))} />

mount(New, Old)
