-- +goose Up
-- Registration partners, the people at them, and what they used of their volume.
CREATE TABLE partners (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  title      TEXT NOT NULL,
  state      TEXT NOT NULL,
  scope      TEXT NOT NULL, -- JSON
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE partner_people (
  partner    TEXT NOT NULL REFERENCES partners (id),
  name       TEXT NOT NULL,
  token_hash BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL,
  PRIMARY KEY (partner, name)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX partner_people_token ON partner_people (token_hash) WHERE length(token_hash) > 0;

-- Reservations of each hour of the clock, counted in the transaction that makes them.
CREATE TABLE partner_use (
  partner TEXT NOT NULL,
  hour    INTEGER NOT NULL,
  used    INTEGER NOT NULL,
  PRIMARY KEY (partner, hour)
) STRICT, WITHOUT ROWID;

-- Second approvals of orders for names on the high-value list.
CREATE TABLE second_approvals (
  order_id TEXT NOT NULL,
  actor    TEXT NOT NULL,
  at       INTEGER NOT NULL,
  PRIMARY KEY (order_id, actor)
) STRICT, WITHOUT ROWID;
