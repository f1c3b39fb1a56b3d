package conversations

import (
	"context"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/ports"
)

// Rate sets the feedback on a reply, in place of an earlier one.
type Rate struct {
	Principal access.Principal
	Caller    access.Caller
	MessageID string
	chat.Feedback
}

// SetFeedback sets the caller's feedback on a reply of theirs. The audit entry has
// the rating, not the reason.
func (s *Service) SetFeedback(ctx context.Context, in Rate) (chat.Feedback, error) {
	if !chat.ValidID(in.MessageID) {
		return chat.Feedback{}, chat.MessageNotFound()
	}
	if err := in.Validate(); err != nil {
		return chat.Feedback{}, err
	}
	entry := s.messageEntry(in.Principal, in.Caller, audit.ActionFeedbackGiven, in.MessageID)
	entry.Metadata = map[string]any{"rating": string(in.Rating)}
	provider, model, err := s.Feedback.SetFeedback(ctx, in.Principal.UserID, in.MessageID, in.Feedback, entry)
	if err != nil {
		return chat.Feedback{}, err
	}
	s.Observer.Observe(ctx, ports.FeedbackGiven{Provider: provider, Model: model, Rating: in.Rating})
	return in.Feedback, nil
}

// DeleteFeedback takes the caller's feedback on a reply back. Without feedback it
// does nothing.
func (s *Service) DeleteFeedback(ctx context.Context, p access.Principal, caller access.Caller, message string) error {
	if !chat.ValidID(message) {
		return chat.MessageNotFound()
	}
	return s.Feedback.DeleteFeedback(ctx, p.UserID, message, s.messageEntry(p, caller, audit.ActionFeedbackDeleted, message))
}

func (s *Service) messageEntry(p access.Principal, caller access.Caller, action, id string) audit.Entry {
	e := s.entry(p, caller, action, id)
	e.Resource = audit.ResourceMessage
	return e
}
