// Shows a page of docs/ai-sdk.md as it stands there.
import { createRoot } from 'react-dom/client'
import Page from 'document'

createRoot(document.getElementById('root')).render(<Page id={new URLSearchParams(location.search).get('chat')} />)
