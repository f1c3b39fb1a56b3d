package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"parley/adapters/sqlstore"
	receiver "parley/adapters/webhooks"
	"parley/app/webhooks"
	"parley/domain/webhook"
	"parley/platform/config"
	"parley/ports"
)

// newWebhooks makes what delivers events; nil without a receiver.
func newWebhooks(c config.Config, store *sqlstore.Store, observer ports.Observer) (*webhooks.Worker, error) {
	w := c.Webhooks
	if !w.WebhookURL.Set() {
		return nil, nil //nolint:nilnil // there is none
	}
	keys, err := webhookKeys(w)
	if err != nil {
		return nil, usageError{err}
	}
	to, err := receiver.New(receiver.Options{
		URL: w.WebhookURL.Reveal(), Keys: keys, Private: w.WebhookPrivate, Timeout: w.WebhookTimeout, UserAgent: "parley/" + Version,
	})
	if err != nil {
		return nil, usageError{errors.Join(errors.New("WEBHOOK_URL"), err)}
	}
	return webhooks.New(webhooks.Deps{Outbox: store, Receiver: to, Observer: observer, Now: time.Now},
		webhooks.Options{Retention: w.WebhookRetention}), nil
}

// hookLoops are the loops of webhooks; none without a receiver.
func hookLoops(hooks *webhooks.Worker) []service {
	if hooks == nil {
		return nil
	}
	return []service{forever("webhooks", hooks.Serve)}
}

func webhookKeys(w config.Webhooks) (keys []webhook.Key, err error) {
	for _, s := range w.WebhookSecret {
		key, err := webhook.ParseKey(strings.TrimSpace(s.Reveal()))
		if err != nil {
			return nil, fmt.Errorf("WEBHOOK_SECRET %w", err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

type webhookCommand struct {
	List   webhookList   `cmd:"" help:"List events and what has become of them, newest first."`
	Replay webhookReplay `cmd:"" help:"Send events again that were delivered or given up, under their ids."`
}

type webhookList struct {
	State string `enum:"all,pending,delivered,dead" default:"all" help:"Only pending, delivered or dead events."`
	Limit int    `default:"100" help:"At most so many."`
}

// Run lists events. Their bodies are not shown.
func (l webhookList) Run(ctx context.Context, p Process) error {
	return withStore(ctx, p, func(_ config.Config, store *sqlstore.Store) error {
		f := ports.EventFilter{Limit: l.Limit}
		if l.State != "all" {
			f.State = webhook.State(l.State)
		}
		events, err := store.Events(ctx, f)
		if err != nil {
			return err
		}
		return writeEvents(p.Stdout, events)
	})
}

// writeEvents writes a table of events.
func writeEvents(out io.Writer, events []webhook.Delivery) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tTYPE\tUSER\tHAPPENED\tSTATE\tTRIES\tLAST ANSWER\tNEXT")
	for _, e := range events {
		next := "-"
		if e.State == webhook.Pending {
			next = e.DueAt.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", e.ID, e.Type, e.UserID, e.At.Format(time.RFC3339), e.State, e.Tries, lastAnswer(e.Last), next)
	}
	return w.Flush()
}

func lastAnswer(a webhook.Answer) string {
	switch {
	case a.Status > 0:
		return fmt.Sprint(a.Status)
	case a.Failure != "":
		return a.Failure
	}
	return "-"
}

type webhookReplay struct {
	ID    string        `xor:"which" required:"" help:"The event of that id."`
	Dead  bool          `xor:"which" required:"" help:"All events that were given up."`
	Since time.Duration `xor:"which" required:"" help:"All events that happened in the last such time, as 24h, also those that were delivered."`
}

// Run makes events pending again. Instances that serve send them within a second.
func (r webhookReplay) Run(ctx context.Context, p Process) error {
	f := ports.EventFilter{ID: r.ID}
	if r.Dead {
		f.State = webhook.Dead
	}
	if r.Since > 0 {
		f.Since = time.Now().Add(-r.Since)
	}
	if f == (ports.EventFilter{}) {
		return usageError{errors.New("one of --id, --dead and --since is required")}
	}
	return withStore(ctx, p, func(_ config.Config, store *sqlstore.Store) error {
		n, err := store.ReplayEvents(ctx, f)
		if err == nil {
			_, err = fmt.Fprintf(p.Stdout, "%d events will be sent again\n", n)
		}
		return err
	})
}
