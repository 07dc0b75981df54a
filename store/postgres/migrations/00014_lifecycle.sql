-- +goose Up
-- What takes a change back, and what keeps one from being settled.
ALTER TABLE changes ADD COLUMN undoes TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN incident TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN rule TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN was_kept BIGINT NOT NULL DEFAULT 0;
ALTER TABLE changes ADD COLUMN problem TEXT NOT NULL DEFAULT '';
ALTER TABLE changes ADD COLUMN dies_at BIGINT NOT NULL DEFAULT 0;

-- What a row said before the change; 0 for one that was issued. Known where the change says was_kept.
ALTER TABLE change_items ADD COLUMN was_reason BIGINT NOT NULL DEFAULT 0;
ALTER TABLE change_items ADD COLUMN was_revoked_at BIGINT NOT NULL DEFAULT 0;

-- Every revocation that was taken back, with what it said: a revoked row becomes issued here and nowhere else.
CREATE TABLE restorations (
  change_seq  BIGINT NOT NULL REFERENCES changes (seq),
  issuer      TEXT COLLATE "C" NOT NULL,
  serial      BYTEA NOT NULL,
  reason      BIGINT NOT NULL,
  revoked_at  BIGINT NOT NULL,
  restored_at BIGINT NOT NULL,
  PRIMARY KEY (change_seq, issuer, serial)
);

-- The leaves that tell the story of a change.
CREATE TABLE change_evidence (
  change_id TEXT COLLATE "C" NOT NULL,
  seq       BIGINT NOT NULL REFERENCES evidence (seq),
  PRIMARY KEY (change_id, seq)
);

-- One row: whose turn it is to make the newest head the public one.
CREATE TABLE head_turn (
  id BIGINT PRIMARY KEY
);
INSERT INTO head_turn (id) VALUES (1);
