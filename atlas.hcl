// Atlas CLI projects. The same directories are embedded in the binary, where
// "parley migrate up" applies them and keeps the same table of revisions, so
// that either may go on where the other stopped.
//
//   atlas migrate validate --env ci
//   atlas migrate apply    --env production
//   atlas migrate status   --env production
//
// A database that already holds other tables wants --allow-dirty the first time.

locals {
  revisions = "atlas_schema_revisions"
}

// The embedded store of "make run".
env "local" {
  url = "sqlite://data/parley.db"
  dev = "sqlite://dev?mode=memory"
  migration {
    dir = "file://adapters/sqlstore/migrations/sqlite"
  }
}

// A throw-away Postgres; dev is a second, empty database on it.
env "ci" {
  url = getenv("DATABASE_URL")
  dev = getenv("DEV_DATABASE_URL")
  migration {
    dir              = "file://adapters/sqlstore/migrations/postgres"
    revisions_schema = local.revisions
    lock_timeout     = "30s"
  }
}

env "production" {
  url = getenv("DATABASE_URL")
  migration {
    dir              = "file://adapters/sqlstore/migrations/postgres"
    revisions_schema = local.revisions
    exec_order       = LINEAR
    lock_timeout     = "30s"
  }
}
