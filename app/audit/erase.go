package audit

import (
	"context"
	"time"

	"parley/domain/audit"
	"parley/domain/fault"
	"parley/ports"
)

// EraseUser deletes everything of a user from every table and cache: chats, runs,
// the user, and the audit entries with their key. It first stops the user's live
// replies. What is kept names no user: one link of the chain says that a user was
// erased and when; under a keyed hash of the user's id the store remembers that
// credentials issued until now have ended, and what was used today and this
// month.
//
// NotFound: nothing of the user is stored. After any other error the erasure may
// have begun; calling it again continues, and so does Serve after a while.
func (s *Service) EraseUser(ctx context.Context, user string) error {
	if user == "" {
		return fault.New(fault.Invalid, "A user id is required")
	}
	keys, err := s.open(ctx)
	if err != nil {
		return err
	}
	e := ports.Erasure{UserID: user, UserHash: keys.UserHash(user), At: s.Now()}
	if s.Sessions != nil {
		if e.Sessions, err = s.Sessions(ctx, user); err != nil {
			return err
		}
	}
	if err := s.stopRuns(ctx, user); err != nil {
		return err
	}
	known, err := s.Eraser.DeclareErasure(ctx, e, func(last, erased audit.Link) audit.Link {
		return keys.Append(last, erased)
	})
	if err != nil {
		return err
	}
	if err := s.revoked(ctx); err != nil {
		return err
	}
	if !known {
		return fault.New(fault.NotFound, "Nothing of this user is stored")
	}
	return s.erase(ctx, e)
}

// revoked tells every instance that credentials have ended.
func (s *Service) revoked(ctx context.Context) error {
	if s.Feed != nil {
		s.Feed.Notify(ctx, ports.TopicRevoked)
	}
	if s.Revoked == nil {
		return nil
	}
	return s.Revoked(ctx)
}

// stopRuns gives live replies StopWait to end by themselves. One that does not
// loses its row, and its owner finds that out.
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

func (s *Service) erase(ctx context.Context, e ports.Erasure) error {
	for more := true; more; {
		var err error
		if more, err = s.Eraser.EraseSome(ctx, e, s.opt.EraseRows); err != nil {
			return err
		}
	}
	// Caches come last, when nothing can be copied into them any more. One that
	// cannot be reached now expires soon.
	for _, c := range s.UserCaches {
		if err := c.ForgetUser(ctx, e.UserID); err != nil {
			s.Observer.Observe(ctx, ports.BackgroundFailed{Task: taskErase, Err: err})
		}
	}
	return nil
}

// resumeErasures continues erasures whose instance is gone.
func (s *Service) resumeErasures(ctx context.Context) error {
	users, err := s.Eraser.Erasures(ctx, s.opt.Resume)
	if err != nil || len(users) == 0 {
		return err
	}
	keys, err := s.open(ctx)
	if err != nil {
		return err
	}
	for _, user := range users {
		if err := s.erase(ctx, ports.Erasure{UserID: user, UserHash: keys.UserHash(user), At: s.Now()}); err != nil {
			return err
		}
	}
	return nil
}
