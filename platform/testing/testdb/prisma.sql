-- The tables as the migrations of the replaced backend make them.
CREATE TABLE "users" (
  "id" TEXT NOT NULL,
  "name" TEXT,
  "email" TEXT,
  CONSTRAINT "users_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "chat_conversations" (
  "id" TEXT NOT NULL,
  "userId" TEXT NOT NULL,
  "title" TEXT,
  "lastMessageAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "chat_conversations_pkey" PRIMARY KEY ("id")
);

CREATE TABLE "chat_messages" (
  "id" TEXT NOT NULL,
  "conversationId" TEXT,
  "userId" TEXT NOT NULL,
  "content" TEXT NOT NULL,
  "role" TEXT NOT NULL,
  "metadata" JSONB,
  "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
  "updatedAt" TIMESTAMP(3) NOT NULL,
  CONSTRAINT "chat_messages_pkey" PRIMARY KEY ("id")
);

CREATE INDEX "chat_conversations_userId_idx" ON "chat_conversations" ("userId");
CREATE INDEX "chat_conversations_lastMessageAt_idx" ON "chat_conversations" ("lastMessageAt");
CREATE INDEX "chat_conversations_userId_lastMessageAt_idx" ON "chat_conversations" ("userId", "lastMessageAt");
CREATE INDEX "chat_messages_userId_idx" ON "chat_messages" ("userId");
CREATE INDEX "chat_messages_conversationId_idx" ON "chat_messages" ("conversationId");
CREATE INDEX "chat_messages_createdAt_idx" ON "chat_messages" ("createdAt");
CREATE INDEX "chat_messages_userId_createdAt_idx" ON "chat_messages" ("userId", "createdAt");
CREATE INDEX "chat_messages_conversationId_createdAt_idx" ON "chat_messages" ("conversationId", "createdAt");
ALTER TABLE "chat_conversations" ADD CONSTRAINT "chat_conversations_userId_fkey" FOREIGN KEY ("userId") REFERENCES "users" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "chat_messages" ADD CONSTRAINT "chat_messages_conversationId_fkey" FOREIGN KEY ("conversationId") REFERENCES "chat_conversations" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
ALTER TABLE "chat_messages" ADD CONSTRAINT "chat_messages_userId_fkey" FOREIGN KEY ("userId") REFERENCES "users" ("id") ON DELETE CASCADE ON UPDATE CASCADE;
