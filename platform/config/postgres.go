package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Postgres is a PostgreSQL URL translated into the terms of libpq and pgx. Apps
// share their DATABASE_URL with Parley, and theirs has parameters of Prisma,
// node-postgres, JDBC and others, which a server refuses.
type Postgres struct {
	// URL is a postgres:// URL whose parameters pgx and libpq's tools know.
	URL Secret
	// SearchPath names the schemas in which tables are looked up, the first one
	// being where they are created. Empty: the server's default.
	SearchPath []string
	// MaxConns is the size of the pool that the URL asks for; 0: none.
	MaxConns int
	// Pooled reports that the URL asks for no prepared statements, mostly
	// because of a pooler such as PgBouncer.
	Pooled bool
	// Ignored lists parameters that have no meaning for Parley, sorted.
	Ignored []string
}

// place names the server and the database, without role and parameters.
func (p Postgres) place() string {
	u, err := url.Parse(p.URL.Reveal())
	if err != nil {
		return ""
	}
	query := u.Query()
	hosts, ports := query.Get("host"), query.Get("port")
	if u.Hostname() != "" {
		hosts, ports = u.Hostname(), u.Port()
	}
	if ports == "" {
		ports = "5432"
	}
	database := strings.TrimPrefix(u.Path, "/")
	if named := query.Get("dbname"); named != "" {
		database = named
	}
	if database == "" {
		database = u.User.Username()
	}
	return strings.ToLower(hosts) + " " + ports + " " + database
}

// urlPrefixes begin a PostgreSQL URL.
var urlPrefixes = []string{"postgres://", "postgresql://"}

// keptParameters are those that pgx and libpq have in common.
var keptParameters = words(`user password dbname sslmode sslrootcert sslcert sslkey sslpassword sslsni sslnegotiation sslcertmode
	target_session_attrs channel_binding require_auth min_protocol_version max_protocol_version
	application_name passfile service servicefile krbsrvname`)

// renamedParameters have another name in libpq.
var renamedParameters = map[string]string{
	"fallback_application_name": "application_name", "applicationname": "application_name", "database": "dbname",
	"hostaddr": "host", "ssl_ca": "sslrootcert", "sslpass": "sslpassword",
}

// poolParameters bound the connection pool.
var poolParameters = words(`connection_limit pool_max_conns pool_size max_pool_size pool max`)

// unpreparedParameters disable prepared statements when they have this value.
var unpreparedParameters = map[string]string{
	"pgbouncer": "true", "statement_cache_size": "0", "prepared_statement_cache_size": "0", "statement_cache_capacity": "0",
	"prepared_statements": "false", "prepare": "false", "preparethreshold": "0",
}

// ignoredParameters belong to other clients, or set what Parley sets itself.
var ignoredParameters = words(`
	pool_timeout connect_timeout socket_timeout max_connection_lifetime max_idle_connection_lifetime single_use_connections
	sslidentity sslinline
	keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout load_balance_hosts requirepeer
	gssencmode gsslib gssdelegation krbspn sslcompression sslcrl sslcrldir ssl_min_protocol_version ssl_max_protocol_version
	client_encoding encoding charset datestyle timezone intervalstyle standard_conforming_strings bytea_output
	default_transaction_isolation
	statement_timeout lock_timeout idle_in_transaction_session_timeout idle_session_timeout transaction_timeout query_timeout command_timeout timeout
	connectiontimeoutmillis idletimeoutmillis connecttimeout sockettimeout logintimeout cancelsignaltimeout timeout_ms
	keepalive tcpkeepalive keepaliveinitialdelaymillis uselibpqcompat binary min idle_timeout max_lifetime max_uses fetch_types
	default_query_exec_mode statement_cache_mode description_cache_capacity pool_min_conns pool_min_idle_conns pool_max_conn_lifetime
	pool_max_conn_lifetime_jitter pool_max_conn_idle_time pool_health_check_period pool_ping_timeout
	preparedstatementcachequeries preparedstatementcachesizemib stringtype rewritebatchedinserts binarytransfer defaultrowfetchsize
	targetservertype autosave readonly sslfactory assumeminserverversion
	conn_max_age conn_health_checks checkout_timeout reaping_frequency advisory_locks variables min_messages
	serverversion supa workaround async_fallback pool_recycle pool_pre_ping max_overflow`)

func words(list string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(list) {
		set[w] = true
	}
	return set
}

// ParsePostgres translates the URL of a PostgreSQL database. Errors name the
// parameter that is wrong and never repeat a value.
func ParsePostgres(raw string) (Postgres, error) {
	u, err := splitPostgres(raw)
	if err != nil {
		return Postgres{}, err
	}
	t := translation{kept: url.Values{}, host: u.hosts, port: u.ports}
	for _, p := range u.parameters {
		if err := t.take(p.name, p.value); err != nil {
			return Postgres{}, err
		}
	}
	if err := t.encrypt(); err != nil {
		return Postgres{}, err
	}
	t.out.URL = Secret(t.build(u))
	slices.Sort(t.out.Ignored)
	t.out.Ignored = slices.Compact(t.out.Ignored)
	return t.out, nil
}

// postgresURL is a URL taken apart as libpq does it, which knows more than
// net/url: several hosts, and directories of sockets.
type postgresURL struct {
	user, password, database string
	hosts, ports             []string // alike in length; a port is "" where none is given
	parameters               []parameter
}

type parameter struct{ name, value string }

var errPercent = errors.New("must have special characters percent-encoded, such as %40 for @ in a password")

func splitPostgres(raw string) (postgresURL, error) {
	var u postgresURL
	rest := ""
	for _, prefix := range urlPrefixes {
		if after, ok := strings.CutPrefix(raw, prefix); ok {
			rest = after
		}
	}
	if rest == "" && !slices.Contains(urlPrefixes, raw) {
		return u, errors.New("must be a URL that begins with postgres:// or postgresql://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, password, _ := strings.Cut(authority[:at], ":")
		authority = authority[at+1:]
		if !unescapeAll(&u.user, user) || !unescapeAll(&u.password, password) {
			return u, errPercent
		}
	}
	if !unescapeAll(&u.database, path) {
		return u, errPercent
	}
	if authority != "" {
		for _, one := range strings.Split(authority, ",") {
			host, port, err := splitHost(one)
			if err != nil {
				return u, err
			}
			u.hosts, u.ports = append(u.hosts, host), append(u.ports, port)
		}
	}
	for _, pair := range strings.FieldsFunc(query, func(r rune) bool { return r == '&' }) {
		name, value, _ := strings.Cut(pair, "=")
		var p parameter
		if !unescapeAll(&p.name, name) || !unescapeAll(&p.value, strings.ReplaceAll(value, "+", "%20")) {
			return u, errPercent
		}
		u.parameters = append(u.parameters, p)
	}
	return u, nil
}

func unescapeAll(to *string, text string) bool {
	out, err := url.PathUnescape(text)
	*to = out
	return err == nil && !strings.ContainsRune(out, 0)
}

func splitHost(text string) (host, port string, err error) {
	host = text
	if after, ok := strings.CutPrefix(text, "["); ok { // IPv6
		if host, port, ok = strings.Cut(after, "]"); !ok {
			return "", "", errors.New("has an address without its closing bracket")
		}
		port = strings.TrimPrefix(port, ":")
	} else if i := strings.LastIndexByte(text, ':'); i >= 0 {
		host, port = text[:i], text[i+1:]
	}
	if !unescapeAll(&host, host) {
		return "", "", errPercent
	}
	return host, port, checkPort(port)
}

func checkPort(port string) error {
	if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
		return fmt.Errorf("must have a port between 1 and 65535; %w", errPercentEncode)
	}
	return nil
}

// errPercentEncode is appended where an unescaped character of the password may have
// been taken for the end of it.
var errPercentEncode = errors.New("special characters in a password must be percent-encoded")

// translation is the work on one URL's parameters.
type translation struct {
	out        Postgres
	kept       url.Values
	host, port []string
	ssl        string // the parameter ssl of other clients
	accept     string // Prisma's sslaccept
}

var parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]{0,63}$`)

func (t *translation) take(name, value string) error {
	known := strings.ToLower(name)
	if libpq, ok := renamedParameters[known]; ok {
		if known == "fallback_application_name" && t.kept.Has(libpq) || known == "hostaddr" && len(t.host) > 0 {
			t.ignore(name)
			return nil
		}
		known = libpq
	}
	if without, ok := unpreparedParameters[known]; ok {
		t.out.Pooled = t.out.Pooled || strings.EqualFold(value, without) || without == "true" && value == "1"
		return nil
	}
	switch {
	case known == "host":
		t.host = strings.Split(value, ",")
		if len(t.port) > len(t.host) {
			t.port = t.port[:len(t.host)]
		}
	case known == "port":
		t.port = strings.Split(value, ",")
		for _, port := range t.port {
			if err := checkPort(port); err != nil {
				return err
			}
		}
	case known == "schema" || known == "currentschema" || known == "search_path" || known == "schema_search_path":
		t.out.SearchPath = splitSearchPath(value, known == "schema")
	case known == "options":
		t.options(value)
	case poolParameters[known]:
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return fmt.Errorf("has a parameter %s that must be a whole number above 0", name)
		}
		t.out.MaxConns = n
	case known == "ssl":
		t.ssl = strings.ToLower(value)
	case known == "sslaccept":
		t.accept = value
	case keptParameters[known]:
		t.kept.Set(known, value)
	case ignoredParameters[known]:
		t.ignore(name)
	case !parameterName.MatchString(name):
		return fmt.Errorf("has something after ? that is no parameter; %w", errPercentEncode)
	default:
		return fmt.Errorf("has the unknown parameter %s; remove it", name)
	}
	return nil
}

func (t *translation) ignore(name string) { t.out.Ignored = append(t.out.Ignored, name) }

// options takes the search path out of libpq's command-line options. What
// remains is for the server, or for the proxy of a hosted one.
func (t *translation) options(value string) {
	var rest []string
	fields := strings.Fields(value)
	for i := 0; i < len(fields); i++ {
		setting := fields[i]
		if setting == "-c" && i+1 < len(fields) {
			i++
			setting = "-c" + fields[i]
		}
		name, path, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(setting, "-c"), "--"), "=")
		if strings.EqualFold(strings.ReplaceAll(name, "-", "_"), "search_path") {
			t.out.SearchPath = splitSearchPath(path, false)
			continue
		}
		rest = append(rest, setting)
	}
	if len(rest) > 0 {
		t.kept.Set("options", strings.Join(rest, " "))
	}
}

// splitSearchPath reads the names of a search path. A single schema is taken as
// it is.
func splitSearchPath(value string, single bool) []string {
	if single {
		if value = strings.TrimSpace(value); value == "" {
			return nil
		}
		return []string{value}
	}
	var names []string
	for _, name := range strings.Split(value, ",") {
		name = strings.TrimSpace(name)
		switch {
		case name == "":
		case len(name) > 1 && name[0] == '"' && name[len(name)-1] == '"':
			names = append(names, strings.ReplaceAll(name[1:len(name)-1], `""`, `"`))
		default:
			names = append(names, strings.ToLower(name))
		}
	}
	return names
}

// sslModes are libpq's, and what other clients call them.
var sslModes = map[string]string{
	"disable": "disable", "allow": "allow", "prefer": "prefer", "require": "require", "verify-ca": "verify-ca", "verify-full": "verify-full",
	"no-verify": "require", "noverify": "require", "off": "disable", "strict": "verify-full",
}

// encrypt settles how the connection is encrypted. Prisma's sslcert is the
// certificate of the server's authority; libpq's is the client's and comes with
// a key. Prisma's require verifies nothing unless sslaccept is strict.
func (t *translation) encrypt() error {
	mode := t.kept.Get("sslmode")
	if mode == "" {
		mode = map[string]string{"true": "verify-full", "1": "verify-full", "yes": "verify-full", "false": "disable", "0": "disable", "no": "disable"}[t.ssl]
		if mode == "" {
			mode = t.ssl
		}
	}
	libpq, ok := sslModes[strings.ToLower(mode)]
	switch {
	case mode != "" && !ok:
		return errors.New("has a parameter sslmode that must be one of disable, allow, prefer, require, no-verify, verify-ca, verify-full")
	case t.accept != "" && t.accept != "strict" && t.accept != "accept_invalid_certs":
		return errors.New("has a parameter sslaccept that must be strict or accept_invalid_certs")
	}
	if t.kept.Has("sslcert") && !t.kept.Has("sslkey") {
		if !t.kept.Has("sslrootcert") {
			t.kept.Set("sslrootcert", t.kept.Get("sslcert"))
		} else {
			t.ignore("sslcert")
		}
		t.kept.Del("sslcert")
	}
	verify := true
	switch {
	case libpq == "disable":
		verify = false
	case t.accept == "strict":
		libpq = "verify-full"
	case t.accept == "accept_invalid_certs" || mode == "no-verify" || mode == "noverify":
		verify = false
		if libpq != "" && libpq != "allow" && libpq != "prefer" {
			libpq = "require"
		}
	}
	if !verify && t.kept.Get("sslrootcert") != "" {
		t.ignore("sslrootcert")
		t.kept.Del("sslrootcert")
	}
	if libpq == "disable" {
		for _, name := range []string{"sslcert", "sslkey", "sslpassword"} {
			t.kept.Del(name)
		}
	}
	if libpq != "" {
		t.kept.Set("sslmode", libpq)
	}
	for _, name := range []string{"sslrootcert", "sslcert", "sslkey"} {
		file := t.kept.Get(name)
		if file == "" || file == "system" {
			continue
		}
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("names a file in %s that cannot be read", name)
		}
		f.Close()
	}
	return nil
}

// build writes the URL anew. One host stands where it belongs; several, or the
// directory of a socket, are parameters, which every reader understands.
func (t *translation) build(u postgresURL) string {
	out := url.URL{Scheme: "postgres", Path: "/" + u.database}
	switch {
	case u.password != "":
		out.User = url.UserPassword(u.user, u.password)
	case u.user != "":
		out.User = url.User(u.user)
	}
	if len(t.host) == 1 && !strings.ContainsAny(t.host[0], "/@") && t.host[0] != "" {
		out.Host = t.host[0]
		if strings.Contains(out.Host, ":") {
			out.Host = "[" + out.Host + "]"
		}
		if len(t.port) == 1 && t.port[0] != "" {
			out.Host = net.JoinHostPort(t.host[0], t.port[0])
		}
	} else if len(t.host) > 0 {
		t.kept.Set("host", strings.Join(t.host, ","))
		if strings.Join(t.port, "") != "" {
			ports := slices.Clone(t.port)
			for i, port := range ports {
				if port == "" {
					ports[i] = "5432"
				}
			}
			t.kept.Set("port", strings.Join(ports, ","))
		}
	} else if len(t.port) == 1 && t.port[0] != "" {
		t.kept.Set("port", t.port[0])
	}
	if out.Path == "/" {
		out.Path = ""
	}
	// Spaces as %20: libpq takes a plus for itself.
	out.RawQuery = strings.ReplaceAll(t.kept.Encode(), "+", "%20")
	text := out.String()
	if out.Host == "" && out.User == nil {
		text = "postgres://" + strings.TrimPrefix(strings.TrimPrefix(text, "postgres:"), "//")
	}
	return text
}
