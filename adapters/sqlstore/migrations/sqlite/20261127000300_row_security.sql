-- SQLite has no roles and no row-level security. The file keeps the versions
-- of both directories the same.

SELECT 1;
