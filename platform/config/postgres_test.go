package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"parley/platform/config"
)

func TestParsePostgres(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte(certificate), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		raw  string
		want config.Postgres
	}{
		"Plain": {"postgres://u:p@h:5433/d", config.Postgres{URL: "postgres://u:p@h:5433/d"}},
		"Prisma": {"postgresql://u:p@h:5432/d?schema=public&connection_limit=5&pgbouncer=true&pool_timeout=10&sslmode=no-verify&connect_timeout=15&socket_timeout=3",
			config.Postgres{URL: "postgres://u:p@h:5432/d?sslmode=require", SearchPath: []string{"public"}, MaxConns: 5, Pooled: true,
				Ignored: []string{"connect_timeout", "pool_timeout", "socket_timeout"}}},
		"PrismaStatementCache": {"postgres://h/d?statement_cache_size=0", config.Postgres{URL: "postgres://h/d", Pooled: true}},
		"PrismaServersCertificate": {"postgres://h/d?sslmode=require&sslcert=" + ca + "&sslaccept=strict&sslidentity=client.p12&sslpassword=x",
			config.Postgres{URL: config.Secret("postgres://h/d?sslmode=verify-full&sslpassword=x&sslrootcert=" + strings.ReplaceAll(ca, "/", "%2F")), Ignored: []string{"sslidentity"}}},
		"PrismaAnyCertificate": {"postgres://h/d?sslmode=require&sslcert=" + ca + "&sslaccept=accept_invalid_certs",
			config.Postgres{URL: "postgres://h/d?sslmode=require", Ignored: []string{"sslrootcert"}}},
		"SocketAsHost":      {"postgresql://u:p@%2Fvar%2Frun%2Fpostgresql/d", config.Postgres{URL: "postgres://u:p@/d?host=%2Fvar%2Frun%2Fpostgresql"}},
		"SocketAsHostPort":  {"postgresql://%2Fvar%2Frun:5433/d", config.Postgres{URL: "postgres:///d?host=%2Fvar%2Frun&port=5433"}},
		"SocketAsParameter": {"postgresql://u:p@localhost/d?host=/var/run/postgresql", config.Postgres{URL: "postgres://u:p@/d?host=%2Fvar%2Frun%2Fpostgresql"}},
		"ManyHosts": {"postgres://a:1,b,[::1]:3/d?target_session_attrs=read-write",
			config.Postgres{URL: "postgres:///d?host=a%2Cb%2C%3A%3A1&port=1%2C5432%2C3&target_session_attrs=read-write"}},
		"IPv6":     {"postgres://u@[::1]:5433/d", config.Postgres{URL: "postgres://u@[::1]:5433/d"}},
		"Password": {"postgres://u:p%40%2F%3F%25#x@y@h/d", config.Postgres{URL: "postgres://u:p%40%2F%3F%25%23x%40y@h/d"}},
		"Keepalives": {"postgres://h/d?keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=9",
			config.Postgres{URL: "postgres://h/d", Ignored: []string{"keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout"}}},
		"ApplicationName": {"postgres://h/d?application_name=my%20app", config.Postgres{URL: "postgres://h/d?application_name=my%20app"}},
		"Node":            {"postgres://h/d?ssl=true&uselibpqcompat=true", config.Postgres{URL: "postgres://h/d?sslmode=verify-full", Ignored: []string{"uselibpqcompat"}}},
		"NodeWithoutTLS":  {"postgres://h/d?ssl=0", config.Postgres{URL: "postgres://h/d?sslmode=disable"}},
		"Neon":            {"postgres://h/d?sslmode=require&channel_binding=require&options=endpoint%3Dep-1", config.Postgres{URL: "postgres://h/d?channel_binding=require&options=endpoint%3Dep-1&sslmode=require"}},
		"Supabase":        {"postgres://h/d?supa=base-pooler.x&sslmode=require&pgbouncer=true", config.Postgres{URL: "postgres://h/d?sslmode=require", Pooled: true, Ignored: []string{"supa"}}},
		"JDBC":            {"postgresql://h/d?currentSchema=Chat,public&ApplicationName=x&prepareThreshold=0", config.Postgres{URL: "postgres://h/d?application_name=x", SearchPath: []string{"chat", "public"}, Pooled: true}},
		"Options":         {"postgres://h/d?options=-csearch_path%3Da,%22B%22%20-c%20work_mem%3D8MB", config.Postgres{URL: "postgres://h/d?options=-cwork_mem%3D8MB", SearchPath: []string{"a", "B"}}},
		"PrismaSchema":    {"postgres://h/d?schema=MySchema", config.Postgres{URL: "postgres://h/d", SearchPath: []string{"MySchema"}}},
		"Rails":           {"postgres://h/d?pool=7&prepared_statements=false&timeout=5000", config.Postgres{URL: "postgres://h/d", MaxConns: 7, Pooled: true, Ignored: []string{"timeout"}}},
		"NothingSaid":     {"postgres://h/d?pgbouncer=false&statement_cache_size=100", config.Postgres{URL: "postgres://h/d"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := config.ParsePostgres(c.raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got, cmp.Comparer(func(a, b config.Secret) bool { return a.Reveal() == b.Reveal() })); diff != "" {
				t.Errorf("(-want +got):\n%s\nurl %s", diff, got.URL.Reveal())
			}
			if _, err := pgx.ParseConfig(got.URL.Reveal()); err != nil {
				t.Errorf("the driver does not understand it: %v", err)
			}
		})
	}
}

func TestParsePostgres_ReachesTheDriver(t *testing.T) {
	for raw, want := range map[string][]string{
		"postgresql://u:p%40@%2Fvar%2Frun/d":        {"/var/run", "u", "p@", "d"},
		"postgres://u:p@a:1,b:2/d?sslmode=disable":  {"a", "u", "p", "d"},
		"postgres://h:5432/d?user=u&password=p%20q": {"h", "u", "p q", "d"},
	} {
		p, err := config.ParsePostgres(raw)
		if err != nil {
			t.Fatal(err)
		}
		c, err := pgx.ParseConfig(p.URL.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, []string{c.Host, c.User, c.Password, c.Database}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", raw, diff)
		}
	}
}

// What cannot be understood is named, and no value is repeated.
func TestParsePostgres_Refuses(t *testing.T) {
	for raw, names := range map[string]string{
		"postgres://h/d?connexion_limit=canary":       "unknown parameter connexion_limit",
		"postgres://h/d?sslmode=canary":               "sslmode",
		"postgres://h/d?sslaccept=canary":             "sslaccept",
		"postgres://h/d?connection_limit=canary":      "connection_limit",
		"postgres://h/d?sslrootcert=/canary":          "sslrootcert",
		"postgres://h:canary/d":                       "port",
		"postgres://u:can?ary@h/d":                    "percent-encoded",
		"postgres://u:can/ary@h/d?canary@":            "percent-encoded",
		"postgres://u:canary%zz@h/d":                  "percent-encoded",
		"postgres://[::1/canary":                      "bracket",
		"mysql://canary":                              "postgres://",
		"prisma://accelerate.prisma-data.net/?canary": "postgres://",
	} {
		_, err := config.ParsePostgres(raw)
		if err == nil || !strings.Contains(err.Error(), names) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, which should speak of %s", raw, err, names)
		}
	}
}

func TestLoad_DatabaseURL(t *testing.T) {
	url := "postgres://u:p@h/d?schema=chat&connection_limit=1&pgbouncer=true&pool_timeout=10"
	c, err := config.Load([]string{"DATABASE_URL=" + url, "AUTH_DATABASE_URL=" + url})
	if err != nil {
		t.Fatal(err)
	}
	if c.Store.DBMaxConns != 2 || c.Store.DBExecMode != "exec" {
		t.Errorf("pool of %d, mode %s", c.Store.DBMaxConns, c.Store.DBExecMode)
	}
	want := []string{
		"DATABASE_URL: connection_limit is below 2, the smallest pool that works; 2 is used",
		"DATABASE_URL: parameters without a meaning for Parley are ignored: pool_timeout",
		"AUTH_DATABASE_URL: parameters without a meaning for Parley are ignored: pool_timeout",
	}
	if diff := cmp.Diff(want, c.Warnings()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if c, err = config.Load([]string{"DATABASE_URL=" + url, "DB_MAX_CONNS=9", "DB_EXEC_MODE=simple_protocol"}); err != nil || c.Store.DBMaxConns != 9 || c.Store.DBExecMode != "simple_protocol" {
		t.Errorf("its own settings do not win: %v, %d, %s", err, c.Store.DBMaxConns, c.Store.DBExecMode)
	}
	for _, name := range []string{"DATABASE_URL", "AUTH_DATABASE_URL"} {
		if _, err := config.Load([]string{name + "=" + url + "&canary=1"}); err == nil || !strings.Contains(err.Error(), name+" has the unknown parameter canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// certificate is self-signed, of nobody.
const certificate = `-----BEGIN CERTIFICATE-----
MIIDATCCAemgAwIBAgIUbGRzp5RkQLXnztBd2r0z2tR/NwMwDQYJKoZIhvcNAQEL
BQAwDzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjcwNzI2NDBaGA8yMTI2MTEwMzA3
MjY0MFowDzENMAsGA1UEAwwEdGVzdDCCASIwDQYJKoZIhvcNAQEBBQADggEPADCC
AQoCggEBAKxWFDYi/3gnjiHYE+CoNxZDvsiGa8LJNlYwg5+t20CEGAx1QI7SyzWI
HmlWdHwKvuXEh+zSY8IcLt0sytOpectt/M8kAv/q2lPgOBcqhpE57QxNon3WiIxC
AKLOzrMtJUPleWCrWNYA2swoqKibp5Mv1Fn8TBfLcst660a5IyrptohIw3Xf2NCs
vW6KPDuJCiXtvctthTUz3/0jZFsoX8SPaJspkxn/bZwp9X42Q18KOiy+hCcy4St3
nJ3vXXec8dUxb1Qy13qi9QoriuEWew91EJXLYZeOfkVSN0lZOMxcEXdUWebohBtU
068T2SvWt81b4Sl8yzHJvff2jPmqkiMCAwEAAaNTMFEwHQYDVR0OBBYEFGEcuIxQ
uFCLlagqbt1ghV4kZohNMB8GA1UdIwQYMBaAFGEcuIxQuFCLlagqbt1ghV4kZohN
MA8GA1UdEwEB/wQFMAMBAf8wDQYJKoZIhvcNAQELBQADggEBADv7gZaBladHnJcI
/9PMdNQWFbxk1iAhPzY6+6GDuDOR+p3la2W0aiTVKrB3WthmYXYkIWKPMm7ehY33
ZKsfpJwvRTlVjXzSTaMMYg5KSBOUYHsR5/IZwUXjR1oT1DAroM0SUmoVP0mmHSbG
icMx6ONjRbWGlDGmKU579/72/bymqx5uQA8d8/xVJr0lTXOlg+lWCCKIoItZLMbT
BPwfDfS+VuseTsJ8cT9JWUMXx2LfubDCmv6pyXsmVyEoMrcYA8DldmgHWsJyjZXB
IyTYzwXJz/mpB6mhhaWNLzUwhomtNN3+sMqLCW7MzRINRQxdc8mO2RuqWPlHNaSN
FGssp6M=
-----END CERTIFICATE-----
`
