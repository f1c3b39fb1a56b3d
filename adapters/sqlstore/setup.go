package sqlstore

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// SetupError is a mistake in the configuration of the database, its role or its
// schema. Unlike an outage it does not end by itself.
type SetupError struct {
	What      string // is wrong, such as "Database role does not exist"
	Fix       string // with %s for the setting that names the database
	statement bool   // it was a statement that failed, not the connection
}

func (e *SetupError) Error() string { return e.Sentence("the database URL") }

// Sentence describes the mistake and its fix. setting is the name of the variable
// that holds the database's URL.
func (e *SetupError) Sentence(setting string) string {
	if strings.Contains(e.Fix, "%s") {
		return e.What + "; " + fmt.Sprintf(e.Fix, setting)
	}
	return e.What + "; " + e.Fix
}

// Explain returns the SetupError that an error of a Postgres client means, or nil
// if a later attempt may succeed.
func Explain(err error) *SetupError {
	var known *SetupError
	if errors.As(err, &known) {
		return known
	}
	return setupError(err)
}

// setupError distinguishes mistakes in the configuration from outages: servers
// that start, have no free connections, refuse or drop connections, or do not
// answer.
func setupError(err error) *SetupError {
	var known *SetupError
	if errors.As(err, &known) {
		return known
	}
	var connect *pgconn.ConnectError
	connecting := errors.As(err, &connect)
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return setupOf(pg, connecting)
	}
	if !connecting {
		return nil
	}
	var (
		dns        *net.DNSError
		unverified *tls.CertificateVerificationError
		authority  x509.UnknownAuthorityError
		hostname   x509.HostnameError
		alert      tls.AlertError
		record     tls.RecordHeaderError
		network    net.Error
	)
	switch text := err.Error(); {
	case errors.As(err, &dns) && dns.IsNotFound:
		return &SetupError{What: "Database host does not exist", Fix: "check the host in %s"}
	case errors.As(err, &dns):
		return nil
	case strings.Contains(text, "server refused TLS"):
		return &SetupError{What: "The database server refuses encrypted connections", Fix: "switch TLS on there, or set sslmode=disable in %s if the network is trusted"}
	case errors.As(err, &unverified), errors.As(err, &authority), errors.As(err, &hostname):
		return &SetupError{What: "The certificate of the database server cannot be verified", Fix: "set sslrootcert in %s to the certificate of its authority"}
	case errors.As(err, &alert), errors.As(err, &record):
		return &SetupError{What: "The database server refuses the encryption offered", Fix: "check sslmode, sslcert and sslkey in %s"}
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return &SetupError{What: "The socket of the database server may not be opened", Fix: "check its permissions, or the host in %s"}
	case strings.Contains(text, "SCRAM"), strings.Contains(text, "authentication"), strings.Contains(text, "channel binding"), strings.Contains(text, "channel_binding"):
		return &SetupError{What: "The database server asks for a way to authenticate that is not available", Fix: "check password, channel_binding and require_auth in %s"}
	case errors.As(err, &network), strings.Contains(text, "ValidateConnect"):
		return nil
	}
	return nil
}

// setupOf classifies an error of the server, or of a pooler in front of it.
func setupOf(pg *pgconn.PgError, connecting bool) *SetupError {
	role := &SetupError{What: "Database role does not exist", Fix: "create it, or change the user in %s"}
	database := &SetupError{What: "Database does not exist", Fix: "create it, or change the database in %s"}
	password := &SetupError{What: "The password of the database role is wrong, or the role does not exist", Fix: "change user or password in %s"}
	if !connecting {
		switch pg.Code {
		case "42501":
			return &SetupError{statement: true, What: "The database role lacks a right (SQLSTATE 42501: " + pg.Message + ")",
				Fix: "grant it, as deploy/postgres/roles.sql does, or change the user in %s"}
		}
		return nil
	}
	text := strings.ToLower(pg.Message)
	switch {
	case pg.Code == "3D000", strings.Contains(text, "no such database"):
		return database
	case strings.Contains(text, "no such user"), strings.HasPrefix(pg.Code, "28") && strings.Contains(text, "does not exist"):
		return role
	case pg.Code == "28P01", strings.Contains(text, "password authentication failed"), strings.Contains(text, "auth failed"):
		return password
	case strings.HasPrefix(pg.Code, "28") && strings.Contains(text, "not permitted to log in"):
		return &SetupError{What: "Database role may not log in", Fix: "run ALTER ROLE ... LOGIN, or change the user in %s"}
	case strings.HasPrefix(pg.Code, "28") && strings.Contains(text, "certificate"):
		return &SetupError{What: "The database server demands a client certificate", Fix: "set sslcert and sslkey in %s"}
	case strings.HasPrefix(pg.Code, "28") && strings.Contains(text, "pg_hba.conf"):
		return &SetupError{What: "The database server does not admit this host, role, database or encryption (pg_hba.conf)", Fix: "allow it there, or change sslmode, user or database in %s"}
	case strings.HasPrefix(pg.Code, "28"):
		return &SetupError{What: "The database server refuses the role (SQLSTATE " + pg.Code + ")", Fix: "change user or password in %s"}
	case pg.Code == "42501":
		return &SetupError{What: "Database role may not connect to the database", Fix: "run GRANT CONNECT ON DATABASE ..., or change the user in %s"}
	case pg.Code == "55000":
		return &SetupError{What: "Database does not accept connections", Fix: "run ALTER DATABASE ... ALLOW_CONNECTIONS true, or change the database in %s"}
	case strings.Contains(text, "startup parameter"):
		return &SetupError{What: "The pooler before the database refuses a parameter (" + pg.Message + ")", Fix: "remove it from %s, or name it in ignore_startup_parameters"}
	case strings.HasPrefix(pg.Code, "42"), strings.HasPrefix(pg.Code, "22"):
		return &SetupError{What: "The database server refuses a parameter (SQLSTATE " + pg.Code + ")", Fix: "check options and parameters in %s"}
	case strings.Contains(text, "does not exist") && strings.Contains(text, "database"):
		return database
	case strings.Contains(text, "does not exist") && strings.Contains(text, "role"):
		return role
	}
	return nil
}
