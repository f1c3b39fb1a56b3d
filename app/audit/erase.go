package audit

import (
	"context"
	"time"

	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// EraseUser removes everything of a user from every table and every copy: chats,
// runs, the user, and the audit entries with their key. One link of the chain keeps that
// somebody was erased, and when. It first stops the user's live replies.
//
// NotFound: there is nothing of the user. After any other error the erasure may
// have begun; asking again goes on, and so does Serve by itself after a while.
func (s *Service) EraseUser(ctx context.Context, user string) error {
	if user == "" {
		return fault.New(fault.Invalid, "A user id is required")
	}
	if err := s.stopRuns(ctx, user); err != nil {
		return err
	}
	keys, err := s.open(ctx)
	if err != nil {
		return err
	}
	known, err := s.Eraser.DeclareErasure(ctx, user, s.Now(), func(last, erased audit.Link) audit.Link {
		return keys.Append(last, erased)
	})
	if err != nil {
		return err
	}
	if !known {
		return fault.New(fault.NotFound, "There is nothing of this user")
	}
	return s.erase(ctx, user)
}

// stopRuns gives live replies a moment to end by themselves. One that does not
// loses its row, and its maker finds that out.
func (s *Service) stopRuns(ctx context.Context, user string) error {
	for begun := time.Now(); ; {
		live, err := s.Eraser.StopRuns(ctx, user, s.Now())
		if err != nil || live == 0 || time.Since(begun) > s.opt.StopWait {
			return err
		}
		if s.Feed != nil {
			s.Feed.Notify(ctx, ports.TopicStop)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *Service) erase(ctx context.Context, user string) error {
	for more := true; more; {
		var err error
		if more, err = s.Eraser.EraseSome(ctx, user, s.opt.EraseRows); err != nil {
			return err
		}
	}
	// Last, since nothing can be copied any more. What cannot be reached now
	// goes by itself: no copy lives for long.
	for _, c := range s.Copies {
		if err := c.ForgetUser(ctx, user); err != nil {
			s.Observer.Observe(ctx, ports.BackgroundFailed{Task: taskErase, Err: err})
		}
	}
	return nil
}

// resumeErasures goes on with erasures whose instance is gone.
func (s *Service) resumeErasures(ctx context.Context) error {
	users, err := s.Eraser.Erasures(ctx, s.opt.Resume)
	if err != nil {
		return err
	}
	for _, user := range users {
		if err := s.erase(ctx, user); err != nil {
			return err
		}
	}
	return nil
}
