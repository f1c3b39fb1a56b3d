-- The audit log, which is append-only, and the hash chain that seals its entries.
-- SQLite has no roles: a process that can open the file can drop the triggers, so
-- they prevent mistakes and bound nobody.

-- No foreign key: audit entries outlive the user.
CREATE TABLE audit_logs (
  user_id text NOT NULL DEFAULT '',
  id text NOT NULL,
  action text NOT NULL,
  resource text NOT NULL,
  resource_id text NULL,
  metadata json NULL,
  ip_address text NULL,
  user_agent text NULL,
  status text NOT NULL DEFAULT 'success',
  error_message text NULL,
  created_at datetime NOT NULL,
  updated_at datetime NOT NULL,
  PRIMARY KEY (user_id, id),
  CONSTRAINT audit_logs_status_check CHECK (status IN ('pending', 'success', 'failure'))
);

CREATE INDEX audit_logs_user_idx ON audit_logs (user_id, created_at);

CREATE INDEX audit_logs_action_idx ON audit_logs (action, created_at);

-- The queue of the sealer. A trigger inserts into it in the transaction of the
-- entry, so that no entry is missed.
CREATE TABLE audit_unsealed (
  n integer NOT NULL,
  user_id text NOT NULL,
  entry_id text NOT NULL,
  kind text NOT NULL,
  queued_at datetime NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
  PRIMARY KEY (n)
);

CREATE TABLE audit_chain (
  seq integer NOT NULL,
  subject text NOT NULL,
  entry_id text NOT NULL,
  kind text NOT NULL,
  digest blob NOT NULL,
  prev blob NOT NULL,
  hash blob NOT NULL,
  sealed_at datetime NOT NULL,
  PRIMARY KEY (seq),
  CONSTRAINT audit_chain_kind_check CHECK (kind IN ('opened', 'closed', 'erased'))
);

CREATE INDEX audit_chain_erased_idx ON audit_chain (subject) WHERE kind = 'erased';

-- The user of each subject of the chain, and the salt of the subject's digests.
CREATE TABLE audit_keys (
  user_id text NOT NULL,
  subject text NOT NULL,
  salt blob NOT NULL,
  PRIMARY KEY (user_id)
);

CREATE UNIQUE INDEX audit_keys_subject_key ON audit_keys (subject);

-- The key of the chain, encrypted: a row for each secret that opens it. A rotation
-- of the secret adds a row.
CREATE TABLE audit_root (
  id integer NOT NULL,
  wrapped blob NOT NULL,
  PRIMARY KEY (id)
);

-- Users whose erasure is recorded in the chain and not finished yet.
CREATE TABLE audit_erasures (
  user_id text NOT NULL,
  subject text NOT NULL,
  declared_at datetime NOT NULL,
  PRIMARY KEY (user_id)
);

-- The only change that an entry permits: its outcome is set, once.
CREATE TRIGGER audit_logs_complete BEFORE UPDATE ON audit_logs
WHEN NOT (OLD.status = 'pending' AND NEW.status IN ('success', 'failure')
  AND OLD.user_id IS NEW.user_id AND OLD.id IS NEW.id AND OLD.action IS NEW.action AND OLD.resource IS NEW.resource
  AND OLD.resource_id IS NEW.resource_id AND OLD.metadata IS NEW.metadata AND OLD.ip_address IS NEW.ip_address
  AND OLD.user_agent IS NEW.user_agent AND OLD.created_at IS NEW.created_at)
BEGIN
  SELECT RAISE(ABORT, 'audit_logs is append-only');
END;

-- An erasure is possible only together with its link of the chain.
CREATE TRIGGER audit_logs_delete BEFORE DELETE ON audit_logs
WHEN NOT EXISTS (SELECT 1 FROM audit_erasures AS e JOIN audit_chain AS l ON l.subject = e.subject AND l.kind = 'erased'
  WHERE e.user_id = OLD.user_id)
BEGIN
  SELECT RAISE(ABORT, 'audit_logs is append-only');
END;

CREATE TRIGGER audit_logs_enqueue_new AFTER INSERT ON audit_logs
BEGIN
  INSERT INTO audit_unsealed (user_id, entry_id, kind)
  VALUES (NEW.user_id, NEW.id, iif(NEW.status = 'pending', 'opened', 'closed'));
END;

CREATE TRIGGER audit_logs_enqueue_complete AFTER UPDATE ON audit_logs
BEGIN
  INSERT INTO audit_unsealed (user_id, entry_id, kind)
  VALUES (NEW.user_id, NEW.id, iif(NEW.status = 'pending', 'opened', 'closed'));
END;

CREATE TRIGGER audit_logs_dequeue AFTER DELETE ON audit_logs
BEGIN
  DELETE FROM audit_unsealed WHERE user_id = OLD.user_id AND entry_id = OLD.id;
END;

CREATE TRIGGER audit_chain_update BEFORE UPDATE ON audit_chain
BEGIN
  SELECT RAISE(ABORT, 'audit_chain is append-only');
END;

CREATE TRIGGER audit_chain_delete BEFORE DELETE ON audit_chain
BEGIN
  SELECT RAISE(ABORT, 'audit_chain is append-only');
END;

-- A link can only be put behind the last one.
CREATE TRIGGER audit_chain_append BEFORE INSERT ON audit_chain
WHEN NEW.seq < 1 OR length(NEW.digest) <> 32 OR length(NEW.hash) <> 32
  OR NEW.seq = 1 AND NEW.prev <> zeroblob(32)
  OR NEW.seq > 1 AND NOT EXISTS (SELECT 1 FROM audit_chain AS p WHERE p.seq = NEW.seq - 1 AND p.hash = NEW.prev)
  OR NEW.kind = 'erased' AND NOT EXISTS (SELECT 1 FROM audit_erasures AS e WHERE e.subject = NEW.subject)
BEGIN
  SELECT RAISE(ABORT, 'audit_chain is append-only: a link must follow the last one, and an erasure must be declared');
END;

CREATE TRIGGER audit_keys_update BEFORE UPDATE ON audit_keys
BEGIN
  SELECT RAISE(ABORT, 'audit_keys is append-only');
END;

CREATE TRIGGER audit_keys_delete BEFORE DELETE ON audit_keys
WHEN NOT EXISTS (SELECT 1 FROM audit_erasures AS e JOIN audit_chain AS l ON l.subject = e.subject AND l.kind = 'erased'
  WHERE e.user_id = OLD.user_id)
BEGIN
  SELECT RAISE(ABORT, 'audit_keys is append-only');
END;

CREATE TRIGGER audit_root_update BEFORE UPDATE ON audit_root
BEGIN
  SELECT RAISE(ABORT, 'audit_root is append-only');
END;
