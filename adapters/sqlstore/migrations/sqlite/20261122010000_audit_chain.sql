-- The audit log becomes append-only, and its entries are sealed in a hash chain.

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

CREATE INDEX audit_unsealed_entry_idx ON audit_unsealed (user_id, entry_id);

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

-- The key of the chain, encrypted with AUDIT_KEY. One row.
CREATE TABLE audit_root (
  id integer NOT NULL,
  wrapped blob NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT audit_root_one_check CHECK (id = 1)
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

CREATE TRIGGER audit_logs_delete BEFORE DELETE ON audit_logs
WHEN NOT EXISTS (SELECT 1 FROM audit_erasures WHERE user_id = OLD.user_id)
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

CREATE TRIGGER audit_keys_update BEFORE UPDATE ON audit_keys
BEGIN
  SELECT RAISE(ABORT, 'audit_keys is append-only');
END;

CREATE TRIGGER audit_keys_delete BEFORE DELETE ON audit_keys
WHEN NOT EXISTS (SELECT 1 FROM audit_erasures WHERE user_id = OLD.user_id)
BEGIN
  SELECT RAISE(ABORT, 'audit_keys is append-only');
END;

-- Entries that exist already.
INSERT INTO audit_unsealed (user_id, entry_id, kind)
SELECT user_id, id, iif(status = 'pending', 'opened', 'closed') FROM audit_logs ORDER BY created_at, id;
