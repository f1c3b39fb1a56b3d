package boot

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"parley/platform/ops"
)

type healthcheckCommand struct{}

// Run requests /readyz of the admin listener, so that a container needs no other
// program for its health check.
func (healthcheckCommand) Run(ctx context.Context, p Process) error {
	c, err := p.config()
	if err != nil {
		return err
	}
	url, err := ops.AdminURL(c.Server.AdminAddr)
	if err != nil {
		return usageError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("ask the admin listener: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready (%d)", resp.StatusCode)
	}
	_, err = fmt.Fprintln(p.Stdout, "ready")
	return err
}
