package audit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"parley/domain/audit"
	"parley/ports"
)

// Tasks as BackgroundFailed names them.
const (
	taskSeal  = "audit_seal"
	taskHead  = "audit_head"
	taskErase = "audit_erase"
)

// retryAfter is the pause after a failure, for a database that is down.
const retryAfter = 2 * time.Second

// lastRound is the timeout of the round at the end of Serve.
const lastRound = 3 * time.Second

// Serve seals, exports heads and continues interrupted erasures until ctx is done.
// Then it seals and exports once more, so that an orderly end leaves no entry
// unsealed and no link without a head.
func (s *Service) Serve(ctx context.Context) {
	seal, head := &sealing{Service: s}, &exporting{Service: s}
	var wg sync.WaitGroup
	wg.Go(func() { s.loop(ctx, s.opt.Interval, taskSeal, seal.round) })
	wg.Go(func() { s.loop(ctx, s.opt.HeadEvery, taskHead, head.round) })
	wg.Go(func() { s.loop(ctx, s.opt.Resume, taskErase, s.resumeErasures) })
	wg.Wait()

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRound)
	defer cancel()
	for s.attempt(ctx, taskSeal, seal.round) {
		if _, waiting, err := s.Ledger.Unsealed(ctx); err != nil || !waiting {
			break
		}
		time.Sleep(20 * time.Millisecond) // another instance is sealing, or ending too
	}
	s.attempt(ctx, taskHead, head.round)
}

// loop runs a task now and after every interval.
func (s *Service) loop(ctx context.Context, interval time.Duration, task string, round func(context.Context) error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			pause := interval
			if !s.attempt(ctx, task, round) {
				pause = max(pause, retryAfter)
			}
			timer.Reset(pause)
		case <-ctx.Done():
			return
		}
	}
}

func (s *Service) attempt(ctx context.Context, task string, round func(context.Context) error) (ok bool) {
	err := round(ctx)
	if err != nil && ctx.Err() == nil {
		s.Observer.Observe(ctx, ports.BackgroundFailed{Task: task, Err: err})
	}
	return err == nil
}

// sealing holds the number of the link that this instance added last.
type sealing struct {
	*Service
	seq int64
}

// round seals all waiting facts and reports how long the oldest had waited.
func (s *sealing) round(ctx context.Context) error {
	lag, waiting, err := s.Ledger.Unsealed(ctx)
	if err != nil {
		return err
	}
	n := 0
	for more := waiting; more && err == nil; {
		var sealed []audit.Link
		sealed, more, err = s.sealBatch(ctx)
		if n += len(sealed); len(sealed) > 0 {
			s.seq = sealed[len(sealed)-1].Seq
		}
	}
	s.Observer.Observe(ctx, ports.AuditSealed{Seq: s.seq, Links: n, Lag: max(lag, 0)})
	return err
}

// Seal seals all waiting facts. It returns at once while another instance is
// sealing.
func (s *Service) Seal(ctx context.Context) error { return (&sealing{Service: s}).round(ctx) }

func (s *Service) sealBatch(ctx context.Context) (sealed []audit.Link, more bool, err error) {
	keys, err := s.open(ctx)
	if err != nil {
		return nil, false, err
	}
	now := s.Now()
	return s.Ledger.Seal(ctx, s.opt.Batch, func(last audit.Link, batch []audit.Unsealed) []audit.Link {
		links := make([]audit.Link, 0, len(batch))
		for _, fact := range batch {
			l := audit.Link{Subject: fact.Subject.ID, EntryID: fact.EntryID, Kind: fact.Kind, SealedAt: now}
			if fact.Line != nil { // else the link proves that there was an entry
				l.Digest = keys.Digest(fact.Subject, fact.Kind, *fact.Line)
			}
			last = keys.Append(last, l)
			links = append(links, last)
		}
		return links
	})
}

// exporting holds the number of the head that this instance exported last.
type exporting struct {
	*Service
	seq int64
}

// round signs and exports the last link, of any instance, if it is new. It fails
// if the link is not genuine or the chain has become shorter.
func (s *exporting) round(ctx context.Context) error {
	if s.Export == nil {
		return nil
	}
	last, err := s.Ledger.LastLink(ctx)
	if err != nil || last.Seq == s.seq {
		return err
	}
	keys, err := s.open(ctx)
	switch {
	case err != nil:
		return err
	case last.Seq < s.seq:
		return fmt.Errorf("the audit chain ends at link %d; its last link was %d before", last.Seq, s.seq)
	case !keys.Genuine(last):
		return fmt.Errorf("link %d of the audit chain is not genuine", last.Seq)
	}
	if err := s.Export(ctx, keys.Sign(last, s.Now())); err != nil {
		return fmt.Errorf("export the head of the audit chain: %w", err)
	}
	s.seq = last.Seq
	return nil
}
