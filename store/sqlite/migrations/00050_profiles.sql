-- +goose Up
-- Versions of certificate profiles that people approved, in the order in which they came into force. Rows are only added; the
-- text and the signatures under it are the request's.
CREATE TABLE profile_versions (
  seq          INTEGER PRIMARY KEY,
  name         TEXT NOT NULL,
  version      INTEGER NOT NULL,
  digest       BLOB NOT NULL,
  request      TEXT NOT NULL,
  activated_at INTEGER NOT NULL,
  UNIQUE (name, version, request)
) STRICT;
