package boot

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"time"

	"parley/platform/ops"
)

type topCommand struct {
	Instances  []string      `arg:"" optional:"" name:"url" help:"Admin addresses of the instances, such as http://parley-1:9464; without, ADMIN_ADDR."`
	Prometheus string        `help:"URL of Prometheus, whose firing alerts are shown too."`
	Interval   time.Duration `default:"2s" help:"Time between two screens, over which rates are taken."`
	Once       bool          `help:"Print one screen and exit."`
}

// Run shows one screen after another until it is interrupted.
func (t topCommand) Run(ctx context.Context, p Process) error {
	if t.Interval < 100*time.Millisecond {
		return usageError{errors.New("--interval must be 100ms or more")}
	}
	instances := t.Instances
	if len(instances) == 0 {
		c, err := p.config()
		if err != nil {
			return err
		}
		own, err := ops.AdminURL(c.Server.AdminAddr)
		if err != nil {
			return usageError{err}
		}
		instances = []string{own}
	}
	for i, raw := range instances {
		if !strings.Contains(raw, "://") {
			instances[i] = "http://" + raw
		}
		if u, err := url.Parse(instances[i]); err != nil || u.Host == "" {
			return usageError{errors.New(raw + " is not the URL of an instance")}
		}
	}
	return ops.Top{Instances: instances, Prometheus: t.Prometheus, Interval: t.Interval, Once: t.Once}.Run(ctx, p.Stdout)
}
