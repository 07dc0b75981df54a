-- +goose Up
-- WebAuthn credentials that a quorum bound to operators.
CREATE TABLE security_keys (
  id         BLOB PRIMARY KEY,
  operator   TEXT NOT NULL,
  public_key BLOB NOT NULL, -- DER SubjectPublicKeyInfo
  cose       BLOB NOT NULL,
  rp_id      TEXT NOT NULL,
  origin     TEXT NOT NULL,
  label      TEXT NOT NULL,
  aaguid     BLOB NOT NULL,
  sign_count INTEGER NOT NULL,
  added_at   INTEGER NOT NULL,
  removed_at INTEGER NOT NULL,
  used_at    INTEGER NOT NULL
) STRICT;

-- People who are signed in with a browser, by the hash of their cookie.
CREATE TABLE sessions (
  token_hash BLOB PRIMARY KEY,
  operator   TEXT NOT NULL,
  method     TEXT NOT NULL,
  subject    TEXT NOT NULL,
  roles      TEXT NOT NULL, -- JSON array
  began_at   INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  ended_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE invitations (
  token_hash BLOB PRIMARY KEY,
  operator   TEXT NOT NULL,
  roles      TEXT NOT NULL, -- JSON array
  inviter    TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at    INTEGER NOT NULL
) STRICT;

-- Sign-ins under way: challenges and states, each taken once.
CREATE TABLE signin_steps (
  id         BLOB PRIMARY KEY,
  kind       TEXT NOT NULL,
  body       BLOB NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX signin_steps_expiry ON signin_steps (expires_at);
