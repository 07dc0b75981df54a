-- +goose Up
-- What takes a change back, and what keeps one from being settled.
ALTER TABLE changes ADD COLUMN undoes TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN incident TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN rule TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN was_kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE changes ADD COLUMN problem TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN dies_at INTEGER NOT NULL DEFAULT 0;

-- What a row said before the change; 0 for one that was issued. Known where the change says was_kept.
ALTER TABLE change_items ADD COLUMN was_reason INTEGER NOT NULL DEFAULT 0;
ALTER TABLE change_items ADD COLUMN was_revoked_at INTEGER NOT NULL DEFAULT 0;

-- Every revocation that was taken back, with what it said: a revoked row becomes issued here and nowhere else.
CREATE TABLE restorations (
  change_seq  INTEGER NOT NULL REFERENCES changes (seq),
  issuer      TEXT NOT NULL,
  serial      BLOB NOT NULL,
  reason      INTEGER NOT NULL,
  revoked_at  INTEGER NOT NULL,
  restored_at INTEGER NOT NULL,
  PRIMARY KEY (change_seq, issuer, serial)
) STRICT, WITHOUT ROWID;

-- The leaves that tell the story of a change.
CREATE TABLE change_evidence (
  change_id TEXT NOT NULL,
  seq       INTEGER NOT NULL REFERENCES evidence (seq),
  PRIMARY KEY (change_id, seq)
) STRICT, WITHOUT ROWID;

-- One row: whose turn it is to make the newest head the public one.
CREATE TABLE head_turn (
  id INTEGER PRIMARY KEY
) STRICT;
INSERT INTO head_turn (id) VALUES (1);
