// Generated from the description of the API by make client. Do not edit.

/** The codes of refusals. */
export type ErrorCode =
  | "AI_FAILED"
  | "AI_UNAVAILABLE"
  | "BUDGET_EXCEEDED"
  | "CHAT_DISABLED"
  | "CONFLICT"
  | "FORBIDDEN"
  | "IDEMPOTENCY_MISMATCH"
  | "INTERNAL_ERROR"
  | "INVALID_INPUT"
  | "METHOD_NOT_ALLOWED"
  | "NOT_ACCEPTABLE"
  | "NOT_FOUND"
  | "OVERLOADED"
  | "PAYLOAD_TOO_LARGE"
  | "QUEUE_FULL"
  | "RATE_LIMITED"
  | "REPLY_IN_PROGRESS"
  | "TOO_MANY_STREAMS"
  | "UNAUTHORIZED"
  | "UNAVAILABLE"
  | "UNSUPPORTED_MEDIA_TYPE"
  ;

/** A refusal, as in RFC 9457. */
export interface Problem {
  budget?: string;
  detail: string;
  error: {
    budget?: string;
    code: ErrorCode;
    limit?: number;
    message: string;
    remaining?: number;
    reset?: string;
    runId?: string;
    userMessage?: Message;
  };
  limit?: number;
  message: string;
  remaining?: number;
  requestId: string;
  reset?: string;
  runId?: string;
  status: number;
  title: string;
  type: string;
  userMessage?: Message;
}

export interface Component {
  note?: string;
  status: string;
}

export interface Conversation {
  createdAt: string;
  expiresAt?: string | null;
  id: string;
  lastMessageAt: string;
  model?: string;
  systemPrompt?: string;
  title: string | null;
  updatedAt: string;
  userId: string;
}

export interface Conversations {
  conversations: Conversation[];
  pagination: Pagination;
}

export interface DataChunk {
  data: unknown;
  id?: string;
  type: string;
}

export interface DeltaChunk {
  delta: string;
  id: string;
  type: "reasoning-delta" | "text-delta";
}

export interface DeltaEvent {
  content: string;
  type: "chunk" | "reasoning";
}

export interface Direct {
  expiresAt: string;
  id: string;
  uploadUrl: string;
}

export interface EndEvent {
  assistantMessage: Message | null;
  state: "queued" | "running" | "completed" | "stopped" | "failed" | "interrupted";
  type: "end";
}

export interface ErrorChunk {
  errorText: string;
  type: "error";
}

export interface ErrorEvent {
  assistantMessage: Message | null;
  code: "AI_FAILED" | "AI_UNAVAILABLE" | "INTERRUPTED" | "UNAUTHORIZED";
  error: string;
  runId: string;
  state: "queued" | "running" | "completed" | "stopped" | "failed" | "interrupted";
  type: "error";
}

export interface Exported {
  conversations: ExportedConversation[];
  exportedAt: string;
  files: File[];
  shares: Share[];
  usage: Usage;
  userId: string;
}

export interface ExportedConversation {
  createdAt: string | null;
  id: string | null;
  messages: Message[];
  model?: string;
  systemPrompt?: string;
  title: string | null;
}

export interface Feedback {
  rating: string;
  reason: string;
}

export interface File {
  createdAt: string;
  id: string;
  mediaType: string;
  name: string;
  sha256: string;
  size: number;
  url: string;
}

export type FileBody = Record<string, unknown>;

export interface FileChunk {
  mediaType: string;
  type: "file";
  url: string;
}

export interface Files {
  files: File[];
  hasMore: boolean;
  nextCursor: string | null;
}

export interface FinishChunk {
  finishReason: "stop" | "length" | "content-filter" | "tool-calls" | "other";
  messageMetadata?: Record<string, unknown> | null;
  type: "finish";
}

export interface Health {
  components: Record<string, Component>;
  status: "ok" | "degraded" | "down";
  version?: string;
}

export interface History {
  messages: UiMessage[];
  pagination: HistoryPage;
  runs: Run[];
}

export interface HistoryPage {
  before?: string;
  hasMore: boolean;
  limit: number;
}

export interface Live {
  limit: number | null;
  live: number;
}

export interface LiveEvent {
  runs: Run[];
  type: "snapshot" | "changed";
}

export interface MarkChunk {
  type: "start-step" | "finish-step" | "abort";
}

export interface Message {
  content: string;
  contentHtml?: string | null;
  conversationId: string | null;
  createdAt: string;
  feedback: Feedback | null;
  id: string;
  metadata: Record<string, unknown> | null;
  parentId: string | null;
  parts?: Part[];
  role: "user" | "assistant";
  siblings?: string[];
  updatedAt: string;
  userId: string;
}

export interface Messages {
  messages: Message[];
  pagination: Pagination;
}

export interface Model {
  default: boolean;
  demo: boolean;
  disabled?: boolean;
  id: string;
  model: string;
  provider: string;
  state?: string;
}

export interface Models {
  models: Model[];
}

export interface Pagination {
  after?: string;
  before?: string;
  hasMore: boolean;
  limit: number;
  offset: number;
}

export interface Part {
  data?: Record<string, unknown>;
  id?: string;
  mediaType?: string;
  name?: string;
  size?: number;
  text?: string;
  title?: string;
  type: string;
  url?: string;
}

export interface PartChunk {
  id: string;
  type: "reasoning-start" | "reasoning-end" | "text-start" | "text-end";
}

export interface PartEvent {
  part: Part;
  type: "part";
}

export interface Queued {
  runId: string;
  state: "queued" | "running" | "completed" | "stopped" | "failed" | "interrupted";
  userMessage: Message;
}

export interface ReconnectEvent {
  type: "reconnect";
}

export interface Run {
  conversationId: string | null;
  createdAt: string;
  endedAt: string | null;
  failure?: string;
  kind: "reply" | "regeneration" | "continuation";
  parentId: string | null;
  runId: string;
  state: "queued" | "running" | "completed" | "stopped" | "failed" | "interrupted";
  stopRequested: boolean;
}

export interface Search {
  nextCursor: string | null;
  results: SearchHit[];
}

export interface SearchHit {
  conversationId: string | null;
  conversationTitle: string | null;
  createdAt: string;
  messageId: string | null;
  role: string | null;
  snippetHtml: string;
  titleHtml: string;
}

export interface Sent {
  assistantMessage: Message;
  userMessage: Message;
}

export interface SessionEndedEvent {
  code: "AI_FAILED" | "AI_UNAVAILABLE" | "INTERRUPTED" | "UNAUTHORIZED";
  error: string;
  type: "error";
}

export interface Share {
  conversationId: string;
  createdAt: string;
  expiresAt: string | null;
  id: string;
  messageId: string;
}

export interface Shared {
  conversationId: string;
  createdAt: string;
  expiresAt: string | null;
  id: string;
  messageId: string;
  token: string;
  url: string;
}

export interface SharedBranch {
  createdAt: string;
  expiresAt: string | null;
  messages: SharedMessage[];
  title: string | null;
}

export interface SharedMessage {
  content: string;
  contentHtml: string | null;
  createdAt: string;
  id: string;
  parts?: Part[];
  role: "user" | "assistant";
}

export interface Shares {
  shares: Share[];
}

export interface SourceDocumentChunk {
  mediaType: string;
  sourceId: string;
  title: string;
  type: "source-document";
}

export interface SourceURLChunk {
  sourceId: string;
  title?: string;
  type: "source-url";
  url: string;
}

export interface Spent {
  costLimitUsd: number | null;
  costUsd: number;
  heldCostUsd: number;
  heldTokens: number;
  period: string;
  replies: number;
  reset: string;
  tokenLimit: number | null;
  tokens: number;
}

export interface StartChunk {
  messageId: string;
  type: "start";
}

export interface StartEvent {
  runId: string;
  type: "start";
  userMessage: Message | null;
}

export interface Stopped {
  runs: Run[];
}

export interface Success {
  success: boolean;
}

export interface UiMessage {
  id: string;
  metadata?: Record<string, unknown> | null;
  parts: UiPart[];
  role: "system" | "user" | "assistant";
  [member: string]: unknown;
}

export interface UiPart {
  data?: unknown;
  filename?: string;
  id?: string;
  mediaType?: string;
  sourceId?: string;
  state?: string;
  text?: string;
  title?: string;
  type: string;
  url?: string;
  [member: string]: unknown;
}

export interface Usage {
  concurrentReplies: Live;
  day: Spent;
  month: Spent;
  tier: "anonymous" | "authenticated" | "api_key" | "admin" | "webhook";
}

/** Every route: what it reads, what it answers, and the events of its stream. */
export interface Operations {
  /** Send a message of the AI SDK and stream the reply */
  "POST /api/chat": {
    input: {
      headers?: {
        "Idempotency-Key"?: string;
      };
      body: {
        /** Names a new conversation. */
        id: string;
        maxTokens?: number | null;
        message?: UiMessage | null;
        /** Names a new message. */
        messageId?: string | null;
        messages?: UiMessage[] | null;
        model?: string | null;
        /** Names a message. */
        parentId?: string | null;
        provider?: string | null;
        reasoning?: "low" | "medium" | "high" | null;
        system?: string | null;
        temperature?: number | null;
        trigger?: "submit-message" | "regenerate-message" | null;
        whenBusy?: "reject" | "queue" | "interrupt" | null;
        [member: string]: unknown;
      };
    };
    answer: never;
    events: DataChunk | DeltaChunk | ErrorChunk | FileChunk | FinishChunk | MarkChunk | PartChunk | SourceDocumentChunk | SourceURLChunk | StartChunk;
  };
  /** Delete all data of the user */
  "DELETE /api/chat/account": {
    input: {
      body: {
        confirm: boolean;
      };
    };
    answer: Success;
    events: never;
  };
  /** Delete the conversation that the query names */
  "DELETE /api/chat/conversations": {
    input: {
      query: {
        /** Names a conversation. */
        id: string;
      };
    };
    answer: Success;
    events: never;
  };
  /** List conversations */
  "GET /api/chat/conversations": {
    input: {
      query?: {
        after?: string;
        before?: string;
        limit?: number;
        offset?: number;
      };
      headers?: {
        "If-None-Match"?: string;
      };
    };
    answer: Conversations;
    events: never;
  };
  /** Change the conversation that the body names */
  "PATCH /api/chat/conversations": {
    input: {
      body: {
        /** Names a conversation. */
        conversationId: string;
        model?: string | null;
        systemPrompt?: string | null;
        title?: string | null;
      };
    };
    answer: Conversation;
    events: never;
  };
  /** Create a conversation */
  "POST /api/chat/conversations": {
    input: {
      body?: {
        /** Names a new conversation. */
        id?: string | null;
        model?: string | null;
        systemPrompt?: string | null;
        temporary?: boolean | null;
        title?: string | null;
      };
    };
    answer: Conversation;
    events: never;
  };
  /** Delete a conversation with all its messages */
  "DELETE /api/chat/conversations/{id}": {
    input: {
      path: {
        /** Names a conversation or message. */
        id: string;
      };
    };
    answer: Success;
    events: never;
  };
  /** Read a conversation */
  "GET /api/chat/conversations/{id}": {
    input: {
      path: {
        /** Names a conversation or message. */
        id: string;
      };
    };
    answer: Conversation;
    events: never;
  };
  /** Change a conversation */
  "PATCH /api/chat/conversations/{id}": {
    input: {
      path: {
        /** Names a conversation. */
        id: string;
      };
      body: {
        model?: string | null;
        systemPrompt?: string | null;
        title?: string | null;
      };
    };
    answer: Conversation;
    events: never;
  };
  /** Read the current branch as Markdown */
  "GET /api/chat/conversations/{id}/export": {
    input: {
      path: {
        /** Names a conversation or message. */
        id: string;
      };
    };
    answer: string;
    events: never;
  };
  /** List the shares of a conversation */
  "GET /api/chat/conversations/{id}/shares": {
    input: {
      path: {
        /** Names a conversation or message. */
        id: string;
      };
    };
    answer: Shares;
    events: never;
  };
  /** Share a branch */
  "POST /api/chat/conversations/{id}/shares": {
    input: {
      path: {
        /** Names a conversation. */
        id: string;
      };
      body?: {
        expiresAt?: string | null;
        /** Names a message. */
        messageId?: string | null;
      };
    };
    answer: Shared;
    events: never;
  };
  /** Export all data of the user */
  "GET /api/chat/export": {
    input: Record<never, never>;
    answer: Exported;
    events: never;
  };
  /** List files */
  "GET /api/chat/files": {
    input: {
      query?: {
        after?: string;
        before?: string;
        limit?: number;
        offset?: number;
      };
      headers?: {
        "If-None-Match"?: string;
      };
    };
    answer: Files;
    events: never;
  };
  /** Upload a file */
  "POST /api/chat/files": {
    input: {
      query?: {
        /** Names a new file. */
        id?: string;
        name?: string;
      };
      body: FormData | Blob;
    };
    answer: File;
    events: never;
  };
  /** Begin an upload that goes to the bucket */
  "POST /api/chat/files/direct": {
    input: {
      body: {
        /** Names a new file. */
        id?: string | null;
        mediaType?: string | null;
        name?: string | null;
        size: number;
      };
    };
    answer: Direct;
    events: never;
  };
  /** Delete a file */
  "DELETE /api/chat/files/{id}": {
    input: {
      path: {
        /** Names a file. */
        id: string;
      };
    };
    answer: Success;
    events: never;
  };
  /** Read a file */
  "GET /api/chat/files/{id}": {
    input: {
      path: {
        /** Names a file. */
        id: string;
      };
      headers?: {
        "If-None-Match"?: string;
        "If-Range"?: string;
        Range?: string;
      };
    };
    answer: Blob;
    events: never;
  };
  /** End an upload that went to the bucket */
  "POST /api/chat/files/{id}/complete": {
    input: {
      path: {
        /** Names a file. */
        id: string;
      };
    };
    answer: File;
    events: never;
  };
  /** Follow which replies are live */
  "GET /api/chat/live": {
    input: Record<never, never>;
    answer: never;
    events: LiveEvent | ReconnectEvent | SessionEndedEvent;
  };
  /** Read the history */
  "GET /api/chat/messages": {
    input: {
      query?: {
        after?: string;
        before?: string;
        /** Names a conversation. */
        conversationId?: string;
        /** Names a message. */
        leaf?: string;
        limit?: number;
        offset?: number;
        render?: "html";
      };
      headers?: {
        "If-None-Match"?: string;
      };
    };
    answer: Messages;
    events: never;
  };
  /** Send a message */
  "POST /api/chat/messages": {
    input: {
      query?: {
        render?: "html";
        stream?: boolean;
      };
      headers?: {
        "Idempotency-Key"?: string;
      };
      body: {
        background?: boolean | null;
        content?: string | null;
        /** Names a conversation. */
        conversationId?: string | null;
        files?: string[] | null;
        /** Names a new message. */
        id?: string | null;
        maxTokens?: number | null;
        metadata?: Record<string, unknown> | null;
        model?: string | null;
        /** Names a message. */
        parentId?: string | null;
        provider?: string | null;
        reasoning?: "low" | "medium" | "high" | null;
        stream?: boolean | null;
        system?: string | null;
        temperature?: number | null;
        whenBusy?: "reject" | "queue" | "interrupt" | null;
      };
    };
    answer: Queued | Sent;
    events: DeltaEvent | EndEvent | ErrorEvent | PartEvent | ReconnectEvent | StartEvent;
  };
  /** Edit a message */
  "PATCH /api/chat/messages/{id}": {
    input: {
      path: {
        /** Names a message. */
        id: string;
      };
      query?: {
        render?: "html";
        stream?: boolean;
      };
      headers?: {
        "Idempotency-Key"?: string;
      };
      body: {
        background?: boolean | null;
        content?: string | null;
        files?: string[] | null;
        /** Names a new message. */
        id?: string | null;
        maxTokens?: number | null;
        metadata?: Record<string, unknown> | null;
        model?: string | null;
        provider?: string | null;
        reasoning?: "low" | "medium" | "high" | null;
        stream?: boolean | null;
        system?: string | null;
        temperature?: number | null;
        whenBusy?: "reject" | "queue" | "interrupt" | null;
      };
    };
    answer: Queued | Sent;
    events: DeltaEvent | EndEvent | ErrorEvent | PartEvent | ReconnectEvent | StartEvent;
  };
  /** Make the rest of a reply that was cut short */
  "POST /api/chat/messages/{id}/continue": {
    input: {
      path: {
        /** Names a message. */
        id: string;
      };
      query?: {
        render?: "html";
        stream?: boolean;
      };
      headers?: {
        "Idempotency-Key"?: string;
      };
      body?: {
        background?: boolean | null;
        maxTokens?: number | null;
        model?: string | null;
        provider?: string | null;
        reasoning?: "low" | "medium" | "high" | null;
        stream?: boolean | null;
        system?: string | null;
        temperature?: number | null;
        whenBusy?: "reject" | "queue" | "interrupt" | null;
      };
    };
    answer: Queued | Sent;
    events: DeltaEvent | EndEvent | ErrorEvent | PartEvent | ReconnectEvent | StartEvent;
  };
  /** Take the rating of a reply back */
  "DELETE /api/chat/messages/{id}/feedback": {
    input: {
      path: {
        /** Names a conversation or message. */
        id: string;
      };
    };
    answer: undefined;
    events: never;
  };
  /** Rate a reply */
  "PUT /api/chat/messages/{id}/feedback": {
    input: {
      path: {
        /** Names a message. */
        id: string;
      };
      body: {
        rating: "up" | "down";
        reason?: string | null;
      };
    };
    answer: Feedback;
    events: never;
  };
  /** Make another reply to the same message */
  "POST /api/chat/messages/{id}/regenerate": {
    input: {
      path: {
        /** Names a message. */
        id: string;
      };
      query?: {
        render?: "html";
        stream?: boolean;
      };
      headers?: {
        "Idempotency-Key"?: string;
      };
      body?: {
        background?: boolean | null;
        maxTokens?: number | null;
        model?: string | null;
        provider?: string | null;
        reasoning?: "low" | "medium" | "high" | null;
        stream?: boolean | null;
        system?: string | null;
        temperature?: number | null;
        whenBusy?: "reject" | "queue" | "interrupt" | null;
      };
    };
    answer: Queued | Sent;
    events: DeltaEvent | EndEvent | ErrorEvent | PartEvent | ReconnectEvent | StartEvent;
  };
  /** Stop a reply */
  "POST /api/chat/messages/{id}/stop": {
    input: {
      path: {
        /** Names a conversation or message. */
        id: string;
      };
    };
    answer: Run;
    events: never;
  };
  /** Follow a reply, from any position */
  "GET /api/chat/messages/{id}/stream": {
    input: {
      path: {
        /** Names a message. */
        id: string;
      };
      query?: {
        after?: number;
        render?: "html";
      };
      headers?: {
        "Last-Event-ID"?: number;
      };
    };
    answer: undefined;
    events: DeltaEvent | EndEvent | ErrorEvent | PartEvent | ReconnectEvent | StartEvent;
  };
  /** List the models */
  "GET /api/chat/models": {
    input: Record<never, never>;
    answer: Models;
    events: never;
  };
  /** Search messages and titles */
  "GET /api/chat/search": {
    input: {
      query: {
        cursor?: string;
        limit?: number;
        q: string;
      };
    };
    answer: Search;
    events: never;
  };
  /** Revoke a share */
  "DELETE /api/chat/shares/{id}": {
    input: {
      path: {
        /** Names a share. */
        id: string;
      };
    };
    answer: undefined;
    events: never;
  };
  /** Send a message and stream the reply */
  "POST /api/chat/stream": {
    input: {
      query?: {
        render?: "html";
        stream?: boolean;
      };
      headers?: {
        "Idempotency-Key"?: string;
      };
      body: {
        background?: boolean | null;
        content?: string | null;
        /** Names a conversation. */
        conversationId?: string | null;
        files?: string[] | null;
        /** Names a new message. */
        id?: string | null;
        maxTokens?: number | null;
        metadata?: Record<string, unknown> | null;
        model?: string | null;
        /** Names a message. */
        parentId?: string | null;
        provider?: string | null;
        reasoning?: "low" | "medium" | "high" | null;
        stream?: boolean | null;
        system?: string | null;
        temperature?: number | null;
        whenBusy?: "reject" | "queue" | "interrupt" | null;
      };
    };
    answer: never;
    events: DeltaEvent | EndEvent | ErrorEvent | PartEvent | ReconnectEvent | StartEvent;
  };
  /** Send a message of the AI SDK and stream the reply as plain text */
  "POST /api/chat/text": {
    input: {
      headers?: {
        "Idempotency-Key"?: string;
      };
      body: {
        /** Names a new conversation. */
        id: string;
        maxTokens?: number | null;
        message?: UiMessage | null;
        /** Names a new message. */
        messageId?: string | null;
        messages?: UiMessage[] | null;
        model?: string | null;
        /** Names a message. */
        parentId?: string | null;
        provider?: string | null;
        reasoning?: "low" | "medium" | "high" | null;
        system?: string | null;
        temperature?: number | null;
        trigger?: "submit-message" | "regenerate-message" | null;
        whenBusy?: "reject" | "queue" | "interrupt" | null;
        [member: string]: unknown;
      };
    };
    answer: string;
    events: never;
  };
  /** Follow the live reply of a chat of the AI SDK as plain text */
  "GET /api/chat/text/{id}/stream": {
    input: {
      path: {
        /** Names a new conversation. */
        id: string;
      };
      query?: {
        /** Names a message. */
        runId?: string;
      };
    };
    answer: string | undefined;
    events: never;
  };
  /** Send a message of the AI SDK and stream the reply */
  "POST /api/chat/ui": {
    input: {
      headers?: {
        "Idempotency-Key"?: string;
      };
      body: {
        /** Names a new conversation. */
        id: string;
        maxTokens?: number | null;
        message?: UiMessage | null;
        /** Names a new message. */
        messageId?: string | null;
        messages?: UiMessage[] | null;
        model?: string | null;
        /** Names a message. */
        parentId?: string | null;
        provider?: string | null;
        reasoning?: "low" | "medium" | "high" | null;
        system?: string | null;
        temperature?: number | null;
        trigger?: "submit-message" | "regenerate-message" | null;
        whenBusy?: "reject" | "queue" | "interrupt" | null;
        [member: string]: unknown;
      };
    };
    answer: never;
    events: DataChunk | DeltaChunk | ErrorChunk | FileChunk | FinishChunk | MarkChunk | PartChunk | SourceDocumentChunk | SourceURLChunk | StartChunk;
  };
  /** Read the history of a chat as messages of the AI SDK */
  "GET /api/chat/ui/{id}/messages": {
    input: {
      path: {
        /** Names a new conversation. */
        id: string;
      };
      query?: {
        /** Names a message. */
        before?: string;
        limit?: number;
      };
    };
    answer: History;
    events: never;
  };
  /** Stop the live replies of a chat of the AI SDK */
  "POST /api/chat/ui/{id}/stop": {
    input: {
      path: {
        /** Names a new conversation. */
        id: string;
      };
    };
    answer: Stopped;
    events: never;
  };
  /** Follow the live reply of a chat of the AI SDK */
  "GET /api/chat/ui/{id}/stream": {
    input: {
      path: {
        /** Names a new conversation. */
        id: string;
      };
      query?: {
        /** Names a message. */
        runId?: string;
      };
    };
    answer: undefined;
    events: DataChunk | DeltaChunk | ErrorChunk | FileChunk | FinishChunk | MarkChunk | PartChunk | SourceDocumentChunk | SourceURLChunk | StartChunk;
  };
  /** Read the user's usage and its limits */
  "GET /api/chat/usage": {
    input: Record<never, never>;
    answer: Usage;
    events: never;
  };
  /** Read the history of a chat as messages of the AI SDK */
  "GET /api/chat/{id}/messages": {
    input: {
      path: {
        /** Names a new conversation. */
        id: string;
      };
      query?: {
        /** Names a message. */
        before?: string;
        limit?: number;
      };
    };
    answer: History;
    events: never;
  };
  /** Stop the live replies of a chat of the AI SDK */
  "POST /api/chat/{id}/stop": {
    input: {
      path: {
        /** Names a new conversation. */
        id: string;
      };
    };
    answer: Stopped;
    events: never;
  };
  /** Follow the live reply of a chat of the AI SDK */
  "GET /api/chat/{id}/stream": {
    input: {
      path: {
        /** Names a new conversation. */
        id: string;
      };
      query?: {
        /** Names a message. */
        runId?: string;
      };
    };
    answer: undefined;
    events: DataChunk | DeltaChunk | ErrorChunk | FileChunk | FinishChunk | MarkChunk | PartChunk | SourceDocumentChunk | SourceURLChunk | StartChunk;
  };
  /** Report the health of Parley */
  "GET /api/health": {
    input: Record<never, never>;
    answer: Health;
    events: never;
  };
  /** Describe this API */
  "GET /api/openapi.json": {
    input: Record<never, never>;
    answer: Record<string, unknown>;
    events: never;
  };
  /** Read a shared branch */
  "GET /api/share/{token}": {
    input: {
      path: {
        /** Names a share token. */
        token: string;
      };
    };
    answer: SharedBranch;
    events: never;
  };
  /** Read a file of a shared branch */
  "GET /api/share/{token}/files/{id}": {
    input: {
      path: {
        /** Names a file. */
        id: string;
        /** Names a share token. */
        token: string;
      };
      headers?: {
        "If-None-Match"?: string;
        "If-Range"?: string;
        Range?: string;
      };
    };
    answer: Blob;
    events: never;
  };
}

/** Routes that answer with a file. */
export const binaryRoutes: ReadonlySet<string> = new Set([
  "GET /api/chat/files/{id}",
  "GET /api/share/{token}/files/{id}",
]);
