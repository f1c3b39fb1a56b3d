package conversations

import (
	"context"
	"time"

	"parley/domain/access"
	"parley/domain/audit"
	"parley/domain/chat"
	"parley/domain/fault"
)

// ShareInput asks for a share of a branch of a conversation.
type ShareInput struct {
	Principal      access.Principal
	Caller         access.Caller
	ConversationID string
	LeafID         string    // the last message to share; "": the current branch
	ExpiresAt      time.Time // zero: never
}

// Shared is a new share with its token, which is known only now.
type Shared struct {
	chat.Share
	Token string
}

// Share shares a branch, from its root to a leaf.
func (s *Service) Share(ctx context.Context, in ShareInput) (Shared, error) {
	if !chat.ValidID(in.ConversationID) {
		return Shared{}, chat.ConversationNotFound()
	}
	leaf := in.LeafID
	switch {
	case leaf == "":
		leaf = "current"
	case leaf == "current", !chat.ValidID(leaf):
		leaf = "" // no message: the store says so, unless the conversation is missing
	}
	c, branch, err := s.ShareStore.ShareSource(ctx, in.Principal.UserID, in.ConversationID, leaf, chat.MaxSharedMessages+1)
	if err != nil {
		return Shared{}, err
	}
	token := chat.NewShareToken()
	share := chat.Share{
		ID: s.NewID(), UserID: in.Principal.UserID, ConversationID: c.ID, Title: c.Title, Digest: chat.ShareDigest(token),
		CreatedAt: s.Now(), ExpiresAt: in.ExpiresAt,
	}
	if err := chat.CheckShare(c, branch, share); err != nil {
		return Shared{}, err
	}
	share.LeafID = branch[len(branch)-1].ID
	if in.LeafID != "" && chat.ClientID(share.LeafID) != in.LeafID { // a reply that has not ended
		return Shared{}, chat.MessageNotFound()
	}
	entry := s.shareEntry(in.Principal, in.Caller, audit.ActionShareCreated, share.ID)
	entry.Metadata = map[string]any{"conversationId": c.ID, "messageId": share.LeafID, "expires": !share.ExpiresAt.IsZero()}
	if err := s.ShareStore.CreateShare(ctx, share, chat.CheckShareCount, entry); err != nil {
		return Shared{}, err
	}
	return Shared{share, token}, nil
}

// Shares lists the shares of a conversation, newest first, without those that have
// expired.
func (s *Service) Shares(ctx context.Context, p access.Principal, conversation string) ([]chat.Share, error) {
	if !chat.ValidID(conversation) {
		return nil, chat.ConversationNotFound()
	}
	return s.ShareStore.Shares(ctx, p.UserID, conversation, s.Now())
}

// AllShares lists the shares of all conversations, for the export.
func (s *Service) AllShares(ctx context.Context, p access.Principal) ([]chat.Share, error) {
	if !p.Known() {
		return nil, fault.New(fault.Unauthenticated, "Authentication required")
	}
	return s.ShareStore.Shares(ctx, p.UserID, "", s.Now())
}

// Revoke ends a share.
func (s *Service) Revoke(ctx context.Context, p access.Principal, caller access.Caller, id string) error {
	if !chat.ValidID(id) {
		return chat.ShareNotFound()
	}
	return s.ShareStore.DeleteShare(ctx, p.UserID, id, s.shareEntry(p, caller, audit.ActionShareRevoked, id))
}

// SharedBranch returns the share of a token and its messages, oldest first.
func (s *Service) SharedBranch(ctx context.Context, token string) (chat.Share, []chat.Message, error) {
	return s.ShareStore.SharedBranch(ctx, chat.ShareDigest(token), s.Now(), chat.MaxSharedMessages)
}

// SharedFile returns who owns a file that a shared message refers to.
func (s *Service) SharedFile(ctx context.Context, token, file string) (owner access.Principal, err error) {
	if !chat.ValidID(file) {
		return access.Principal{}, chat.ShareNotFound()
	}
	share, err := s.ShareStore.SharedFile(ctx, chat.ShareDigest(token), s.Now(), file)
	return access.Principal{UserID: share.UserID}, err
}

func (s *Service) shareEntry(p access.Principal, caller access.Caller, action, id string) audit.Entry {
	e := s.entry(p, caller, action, id)
	e.Resource = audit.ResourceShare
	return e
}
