-- An erasure becomes possible only together with its link of the chain; the
-- wrapped root of the chain is only ever added to; and a link can only be put
-- behind the last one. SQLite has no roles: a process that can open the file can drop
-- these triggers, so they prevent mistakes and bound nobody.

-- A rotation of the secret adds a row: the table must lose its check.
CREATE TABLE audit_root_rows (
  id integer NOT NULL,
  wrapped blob NOT NULL,
  PRIMARY KEY (id)
);

INSERT INTO audit_root_rows (id, wrapped) SELECT id, wrapped FROM audit_root;

-- The rows have been copied.
-- atlas:nolint
DROP TABLE audit_root;

-- SQLite has one instance, which is the one that migrates.
-- atlas:nolint
ALTER TABLE audit_root_rows RENAME TO audit_root;

CREATE TRIGGER audit_root_update BEFORE UPDATE ON audit_root
BEGIN
  SELECT RAISE(ABORT, 'audit_root is append-only');
END;

DROP TRIGGER audit_logs_delete;

CREATE TRIGGER audit_logs_delete BEFORE DELETE ON audit_logs
WHEN NOT EXISTS (SELECT 1 FROM audit_erasures AS e JOIN audit_chain AS l ON l.subject = e.subject AND l.kind = 'erased'
  WHERE e.user_id = OLD.user_id)
BEGIN
  SELECT RAISE(ABORT, 'audit_logs is append-only');
END;

DROP TRIGGER audit_keys_delete;

CREATE TRIGGER audit_keys_delete BEFORE DELETE ON audit_keys
WHEN NOT EXISTS (SELECT 1 FROM audit_erasures AS e JOIN audit_chain AS l ON l.subject = e.subject AND l.kind = 'erased'
  WHERE e.user_id = OLD.user_id)
BEGIN
  SELECT RAISE(ABORT, 'audit_keys is append-only');
END;

CREATE TRIGGER audit_chain_append BEFORE INSERT ON audit_chain
WHEN NEW.seq < 1 OR length(NEW.digest) <> 32 OR length(NEW.hash) <> 32
  OR NEW.seq = 1 AND NEW.prev <> zeroblob(32)
  OR NEW.seq > 1 AND NOT EXISTS (SELECT 1 FROM audit_chain AS p WHERE p.seq = NEW.seq - 1 AND p.hash = NEW.prev)
  OR NEW.kind = 'erased' AND NOT EXISTS (SELECT 1 FROM audit_erasures AS e WHERE e.subject = NEW.subject)
BEGIN
  SELECT RAISE(ABORT, 'audit_chain is append-only: a link must follow the last one, and an erasure must be declared');
END;
