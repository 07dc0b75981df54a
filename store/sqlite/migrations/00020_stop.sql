-- +goose Up
-- Stops of issuance: one person makes one, two end it. Those with ended_at 0 are in force.
CREATE TABLE stops (
  seq      INTEGER PRIMARY KEY,
  id       TEXT NOT NULL UNIQUE,
  kind     TEXT NOT NULL,
  value    TEXT NOT NULL,
  reason   TEXT NOT NULL,
  actor    TEXT NOT NULL,
  at       INTEGER NOT NULL,
  ended_at INTEGER NOT NULL,
  ended_by TEXT NOT NULL,
  ending   TEXT NOT NULL
) STRICT;
CREATE INDEX stops_in_force ON stops (seq) WHERE ended_at = 0;
CREATE INDEX stops_ended ON stops (ended_at);

-- Keys reported as compromised whose certificates are being revoked; settled_at 0 while some may be in force.
CREATE TABLE compromises (
  seq        INTEGER PRIMARY KEY,
  key_hash   BLOB NOT NULL UNIQUE,
  actor      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  at         INTEGER NOT NULL,
  revoked    INTEGER NOT NULL,
  changes    TEXT NOT NULL, -- JSON array of ids
  settled_at INTEGER NOT NULL
) STRICT;
CREATE INDEX compromises_open ON compromises (seq) WHERE settled_at = 0;

-- Which partner brought an account, who made it, and since when its key must be changed.
ALTER TABLE accounts ADD COLUMN partner TEXT NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN creator TEXT NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN roll_due INTEGER NOT NULL DEFAULT 0;
CREATE INDEX accounts_partner ON accounts (partner, seq) WHERE partner <> '';
ALTER TABLE external_keys ADD COLUMN partner TEXT NOT NULL DEFAULT '';

-- When somebody last confirmed that an operator should still be one; 0 for never.
ALTER TABLE operators ADD COLUMN reviewed_at INTEGER NOT NULL DEFAULT 0;
