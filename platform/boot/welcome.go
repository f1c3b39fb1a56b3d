package boot

import (
	"fmt"
	"time"

	"parley/adapters/identity"
	"parley/platform/config"
)

// welcome tells whoever has just started Parley for the first time what to do
// next. It shows a token, so it is for development alone.
func welcome(p Process, c config.Config, addr, adminAddr, secret string) error {
	token, err := identity.Mint(secret, identity.Grant{UserID: "dev", TTL: 24 * time.Hour, Now: time.Now()})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, `
Parley listens on http://%[1]s in development mode: AUTH_SECRET is not set,
so tokens are made with the secret in %[2]s, and only this machine can connect.

Say something:

  curl -N http://%[1]s/api/chat/stream \
    -H 'Content-Type: application/json' \
    -H 'Authorization: Bearer %[3]s' \
    -d '{"content":"Hello!"}'

The token is good for a day; parley token --user NAME makes another one.
Metrics and probes: http://%[4]s/metrics, /livez, /readyz.

`, addr, secretFile(c.Store.DataDir), token, adminAddr)
	return err
}
