-- +goose Up
-- What the signer holds a registration partner to, which a restart must not forget. The signer alone writes it.
CREATE TABLE held_scopes (
  partner  TEXT NOT NULL PRIMARY KEY,
  scope    TEXT NOT NULL,
  signed   TEXT NOT NULL,
  at       INTEGER NOT NULL
) STRICT;
