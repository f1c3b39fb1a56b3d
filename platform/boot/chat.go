package boot

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"parley/adapters/providers"
	"parley/adapters/sqlstore"
	"parley/domain/access"
	"parley/domain/audit"
	"parley/platform/config"
	"parley/ports"
)

type chatCommand struct {
	Disable chatDisable `cmd:"" help:"Refuse all chat requests on every instance within a second, or stop using one provider."`
	Enable  chatEnable  `cmd:"" help:"Accept chat requests again, or use a provider again."`
	Status  chatStatus  `cmd:"" help:"List what is disabled, since when and why."`
}

type chatDisable struct {
	Reason   string `required:"" help:"Why; for operators and the audit log. Users do not see it."`
	Provider string `help:"Disable this provider only: the others are used instead."`
}

// Run disables chat or a provider.
func (d chatDisable) Run(ctx context.Context, p Process) error {
	if err := access.ValidateSwitchReason(d.Reason); err != nil {
		return usageError{fmt.Errorf("--reason: %w", err)}
	}
	if err := knownProvider(d.Provider); err != nil {
		return err
	}
	return withSwitches(ctx, p, func(store *sqlstore.Store) error {
		action := audit.ActionChatDisabled
		if d.Provider != "" {
			action = audit.ActionProviderDisabled
		}
		entry := switchEntry(action, d.Provider)
		entry.Metadata["reason"] = d.Reason
		if err := store.Disable(ctx, access.Disabled{Provider: d.Provider, Reason: d.Reason, Since: time.Now()}, entry); err != nil {
			return err
		}
		_, err := fmt.Fprintf(p.Stdout, "%s is disabled; enable it with: %s\n", switchName(d.Provider), enableCommand(d.Provider))
		return err
	})
}

type chatEnable struct {
	Provider string `help:"Enable this provider."`
}

// Run enables chat or a provider. What is not disabled stays as it is.
func (e chatEnable) Run(ctx context.Context, p Process) error {
	if err := knownProvider(e.Provider); err != nil {
		return err
	}
	return withSwitches(ctx, p, func(store *sqlstore.Store) error {
		action := audit.ActionChatEnabled
		if e.Provider != "" {
			action = audit.ActionProviderEnabled
		}
		changed, err := store.Enable(ctx, e.Provider, switchEntry(action, e.Provider))
		if err != nil {
			return err
		}
		was := "is enabled"
		if !changed {
			was = "was not disabled"
		}
		_, err = fmt.Fprintf(p.Stdout, "%s %s\n", switchName(e.Provider), was)
		return err
	})
}

type chatStatus struct{}

// Run lists what is disabled.
func (chatStatus) Run(ctx context.Context, p Process) error {
	return withStore(ctx, p, func(c config.Config, store *sqlstore.Store) error {
		list, err := store.Disabled(ctx)
		if err != nil {
			return err
		}
		w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
		if len(list) > 0 {
			fmt.Fprintln(w, "DISABLED\tSINCE\tREASON")
		}
		for _, d := range list {
			fmt.Fprintf(w, "%s\t%s\t%s\n", switchName(d.Provider), d.Since.UTC().Format(time.RFC3339), d.Reason)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if len(list) == 0 {
			fmt.Fprintln(p.Stdout, "nothing is disabled")
		}
		if c.Limits.ChatDisabled {
			fmt.Fprintln(p.Stdout, "CHAT_DISABLED is set: instances with this setting refuse all chat requests")
		}
		return nil
	})
}

// switchInterval is how often an instance reads the switches. Without Redis, and
// while Redis is down, nothing else tells it of a change.
const switchInterval = 500 * time.Millisecond

// withSwitches runs a change of the switches and tells all instances.
func withSwitches(ctx context.Context, p Process, change func(*sqlstore.Store) error) error {
	return withStore(ctx, p, func(c config.Config, store *sqlstore.Store) error {
		b, err := openBackends(c, instanceName(c), ports.NopObserver{})
		if err != nil {
			return err
		}
		defer b.close()
		if err := change(store); err != nil {
			return err
		}
		b.feed.Notify(ctx, ports.TopicSwitch)
		return nil
	})
}

func knownProvider(name string) error {
	if name != "" && !slices.Contains(providers.Names(), name) {
		return usageError{fmt.Errorf("--provider: unknown provider %q; known are %s", name, strings.Join(providers.Names(), ", "))}
	}
	return nil
}

// switchEntry returns an audit entry for a change of a switch. It belongs to no user.
func switchEntry(action, provider string) audit.Entry {
	resource := audit.ResourceChat
	if provider != "" {
		resource = audit.ResourceProvider
	}
	return operatorEntry("", action, resource, provider)
}

func switchName(provider string) string {
	if provider == "" {
		return "chat"
	}
	return "provider " + provider
}

func enableCommand(provider string) string {
	if provider == "" {
		return "parley chat enable"
	}
	return "parley chat enable --provider " + provider
}
