package boot_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// An account that is erased takes every credential with it that was issued
// before: for good, on every instance, whether or not it was revoked before.
func TestErase_EndsEveryCredential(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		env = append(env, "AUTH_SECRET="+testSecret)
		a := start(t, env...)
		instances := []*instance{a}
		if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "DATABASE_URL=") }) {
			instances = append(instances, start(t, env...))
		}
		old := map[string]string{
			"revoked token": bearer(t, env, "ann"),
		}
		run(t, env, "user", "revoke", "--user", "ann")
		old["token"] = bearer(t, env, "ann")
		old["cookie"] = "Cookie: " + run(t, env, "token", "--cookie", "--user", "ann")
		old["API key"] = "Authorization: Bearer " + run(t, env, "key", "create", "--user", "ann")
		for name, credential := range old {
			if name == "revoked token" {
				continue
			}
			for _, i := range instances {
				if got := call(t, "POST", i.url+"/api/chat/messages", message("!echo before"), credential); got.status != http.StatusCreated {
					t.Fatalf("%s before: %d %s", name, got.status, got.body)
				}
			}
		}
		if got := call(t, "DELETE", a.url+"/api/chat/account", `{"confirm":true}`, old["token"]); got.status != http.StatusOK {
			t.Fatalf("erase: %d %s", got.status, got.body)
		}
		refused := func(when string, i *instance) {
			t.Helper()
			for name, credential := range old {
				if got := call(t, "POST", i.url+"/api/chat/messages", message("!echo after"), credential); got.status != http.StatusUnauthorized {
					t.Errorf("%s: a message with the old %s: %d %s", when, name, got.status, got.body)
				}
				if got := call(t, "GET", i.url+"/api/chat/messages", "", credential); got.status != http.StatusUnauthorized {
					t.Errorf("%s: reading with the old %s: %d %s", when, name, got.status, got.body)
				}
			}
		}
		refused("at once", a)
		for _, i := range instances[1:] {
			eventually(t, "the other instance to refuse", func() bool {
				return call(t, "GET", i.url+"/api/chat/messages", "", old["token"]).status == http.StatusUnauthorized
			})
			refused("elsewhere", i)
		}
		fresh := bearer(t, env, "ann")
		for _, i := range instances {
			if got := call(t, "GET", i.url+"/api/chat/messages", "", fresh); got.status != http.StatusOK || strings.Contains(got.body, "before") {
				t.Errorf("a new session: %d %s", got.status, got.body)
			}
		}
		if got := call(t, "POST", a.url+"/api/chat/messages", message("!echo again"), fresh); got.status != http.StatusCreated {
			t.Errorf("a message of a new session: %d %s", got.status, got.body)
		}
		if got := call(t, "GET", a.url+"/api/chat/messages", "", bearer(t, env, "bob")); got.status != http.StatusOK {
			t.Errorf("another user: %d %s", got.status, got.body)
		}
		a.terminate()
		a = start(t, env...)
		refused("after a restart", a)
		a.terminate()
		// The hash of the user's id needs the audit chain's key: without it an
		// instance that could not recognise erased users does not serve.
		if out, code := fails(t, append(env, "AUTH_SECRET=kq8Zr1uVx3TbWn5LsD7fGh2JpYc9MeAo0iKd4QwXtNzB", "ADDR=127.0.0.1:0", "ADMIN_ADDR=127.0.0.1:0"), "serve"); code == 0 || !strings.Contains(out, "AUDIT_KEY") {
			t.Errorf("with a secret that does not open the chain: %d %s", code, out)
		}
	})
}

// What was used today and this month counts after an erasure too, however often
// the account is erased.
func TestErase_KeepsWhatWasUsed(t *testing.T) {
	t.Parallel()
	databases(t, func(t *testing.T, env []string) {
		env = append(env, "AUTH_SECRET="+testSecret, "BUDGET_TOKENS_MONTH=20000")
		i := start(t, env...)
		used := func(auth string) (day, month float64) {
			t.Helper()
			got := call(t, "GET", i.url+"/api/chat/usage", "", auth)
			if got.status != http.StatusOK {
				t.Fatalf("usage: %d %s", got.status, got.body)
			}
			return at(got.json(t), "day", "tokens").(float64), at(got.json(t), "month", "tokens").(float64)
		}
		sent := 0
		var day, month float64
		for round := range 3 {
			auth := bearer(t, env, "ann")
			if d, m := used(auth); d != day || m != month {
				t.Errorf("round %d begins with %v and %v tokens used; %v and %v were", round, d, m, day, month)
			}
			for range 2 {
				if got := call(t, "POST", i.url+"/api/chat/messages", message("!echo "+strings.Repeat("word ", 100)), auth); got.status != http.StatusCreated {
					t.Fatalf("round %d: %d %s", round, got.status, got.body)
				}
				sent++
			}
			d, m := used(auth)
			if d <= day || m <= month {
				t.Errorf("round %d used nothing: %v, %v", round, d, m)
			}
			day, month = d, m
			if got := call(t, "DELETE", i.url+"/api/chat/account", `{"confirm":true}`, auth); got.status != http.StatusOK {
				t.Fatalf("erase: %d %s", got.status, got.body)
			}
		}
		// With a bound below what was used, a new session is refused.
		i.terminate()
		i = start(t, append(env, fmt.Sprintf("BUDGET_TOKENS_DAY=%d", int(day)))...)
		auth := bearer(t, env, "ann")
		if got := call(t, "POST", i.url+"/api/chat/messages", message("!echo more"), auth); got.status != http.StatusTooManyRequests && got.status != http.StatusPaymentRequired {
			t.Errorf("after %d messages in erased accounts: %d %s", sent, got.status, got.body)
		}
		if d, m := used(auth); d != day || m != month {
			t.Errorf("used %v and %v, want %v and %v", d, m, day, month)
		}
		if got := call(t, "POST", i.url+"/api/chat/messages", message("!echo mine"), bearer(t, env, "bob")); got.status == http.StatusUnauthorized {
			t.Errorf("another user: %d %s", got.status, got.body)
		}
	})
}
