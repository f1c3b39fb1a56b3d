package observe

import (
	"context"
	"log/slog"

	"parley/domain/webhook"
	"parley/ports"
)

// webhookOutcomes are what can become of an event that was sent.
var webhookOutcomes = []string{"delivered", "retry", "dead"}

func (ob *Observer) webhookSent(ctx context.Context, f ports.WebhookSent) {
	d := f.Delivery
	outcome := string(d.State)
	if d.State == webhook.Pending {
		outcome = "retry"
	}
	ob.m.webhooks.WithLabelValues(outcome).Inc()
	ob.m.webhookSeconds.Observe(f.Took.Seconds())
	if d.State == webhook.Delivered {
		return
	}
	msg := "webhook not accepted, it is sent again"
	if d.State == webhook.Dead {
		msg = "webhook given up; parley webhook replay sends it again"
	}
	ob.logRateLimited(ctx, slog.LevelWarn, msg, "event", d.ID, "type", string(d.Type), "failure", d.Last.Failure, "status", d.Last.Status,
		"tries", d.Tries, "again_in_ms", f.Again.Milliseconds())
}
