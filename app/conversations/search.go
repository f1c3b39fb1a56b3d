package conversations

import (
	"context"

	"parley/domain/access"
	"parley/domain/chat"
	"parley/ports"
)

// Search finds messages and titles of the caller's that have every word of a text.
func (s *Service) Search(ctx context.Context, p access.Principal, text string, after *ports.SearchCursor, limit int) ([]chat.SearchHit, *ports.SearchCursor, error) {
	if err := chat.ValidateSearch(text); err != nil {
		return nil, nil, err
	}
	return s.Index.Search(ctx, p.UserID, text, after, limit)
}
