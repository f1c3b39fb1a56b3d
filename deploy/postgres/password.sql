-- Gives parley_app the password in the environment variable APP_PASSWORD, so that
-- it is in no command line. Run as the owner, after roles.sql; needs psql 14:
--   APP_PASSWORD=... psql "$OWNER_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/password.sql
\getenv password APP_PASSWORD
ALTER ROLE parley_app LOGIN PASSWORD :'password';
