-- +goose Up
-- How far each certificate transparency log was read, and what was seen of our own authorities there.
CREATE TABLE ct_monitors (
  log_id  BLOB PRIMARY KEY,
  log     TEXT NOT NULL,
  first   INTEGER NOT NULL,
  entries INTEGER NOT NULL,
  size    INTEGER NOT NULL,
  root    BLOB NOT NULL,
  at      INTEGER NOT NULL,
  ours    INTEGER NOT NULL,
  unknown INTEGER NOT NULL
) STRICT;
