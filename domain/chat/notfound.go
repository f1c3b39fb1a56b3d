package chat

import "parley/domain/fault"

// ConversationNotFound is the fault of a conversation that the user does not have.
// Foreign, unknown and malformed ids are answered alike.
func ConversationNotFound() *fault.Error {
	return fault.New(fault.NotFound, "Conversation not found or access denied")
}

// MessageNotFound is the fault of a message or run that the user does not have.
func MessageNotFound() *fault.Error {
	return fault.New(fault.NotFound, "Message not found or access denied")
}
