-- +goose Up
-- Stops of issuance: one person makes one, two end it. Those with ended_at 0 are in force.
CREATE TABLE stops (
  seq      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id       TEXT COLLATE "C" NOT NULL UNIQUE,
  kind     TEXT COLLATE "C" NOT NULL,
  value    TEXT COLLATE "C" NOT NULL,
  reason   TEXT COLLATE "C" NOT NULL,
  actor    TEXT COLLATE "C" NOT NULL,
  at       BIGINT NOT NULL,
  ended_at BIGINT NOT NULL,
  ended_by TEXT COLLATE "C" NOT NULL,
  ending   TEXT COLLATE "C" NOT NULL
);
CREATE INDEX stops_in_force ON stops (seq) WHERE ended_at = 0;
CREATE INDEX stops_ended ON stops (ended_at);

-- Keys reported as compromised whose certificates are being revoked; settled_at 0 while some may be in force.
CREATE TABLE compromises (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key_hash   BYTEA NOT NULL UNIQUE,
  actor      TEXT COLLATE "C" NOT NULL,
  reason     TEXT COLLATE "C" NOT NULL,
  at         BIGINT NOT NULL,
  revoked    BIGINT NOT NULL,
  changes    TEXT COLLATE "C" NOT NULL, -- JSON array of ids
  settled_at BIGINT NOT NULL
);
CREATE INDEX compromises_open ON compromises (seq) WHERE settled_at = 0;

-- Which partner brought an account, who made it, and since when its key must be changed.
ALTER TABLE accounts ADD COLUMN partner TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN creator TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN roll_due BIGINT NOT NULL DEFAULT 0;
CREATE INDEX accounts_partner ON accounts (partner, seq) WHERE partner <> '';
ALTER TABLE external_keys ADD COLUMN partner TEXT COLLATE "C" NOT NULL DEFAULT '';

-- When somebody last confirmed that an operator should still be one; 0 for never.
ALTER TABLE operators ADD COLUMN reviewed_at BIGINT NOT NULL DEFAULT 0;
