// Package e2e runs real front ends in Chromium against the real program: useChat
// of the AI SDK 5, 6 and 7 and assistant-ui, as they come, on pages whose server
// forwards /api to Parley. After each act of the user the messages on the page
// must be those of the branch that Parley has. Parley's own page is driven too:
// what it can do, what it does in trouble, who can use it (axe-core), and what a
// message must not make it do. Run it with make e2e.
package e2e
