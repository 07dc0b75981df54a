-- +goose Up
-- WebAuthn credentials that a quorum bound to operators.
CREATE TABLE security_keys (
  id         BYTEA PRIMARY KEY,
  operator   TEXT NOT NULL,
  public_key BYTEA NOT NULL, -- DER SubjectPublicKeyInfo
  cose       BYTEA NOT NULL,
  rp_id      TEXT NOT NULL,
  origin     TEXT NOT NULL,
  label      TEXT NOT NULL,
  aaguid     BYTEA NOT NULL,
  sign_count BIGINT NOT NULL,
  added_at   BIGINT NOT NULL,
  removed_at BIGINT NOT NULL,
  used_at    BIGINT NOT NULL
);

-- People who are signed in with a browser, by the hash of their cookie.
CREATE TABLE sessions (
  token_hash BYTEA PRIMARY KEY,
  operator   TEXT NOT NULL,
  method     TEXT NOT NULL,
  subject    TEXT NOT NULL,
  roles      TEXT NOT NULL, -- JSON array
  began_at   BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  ended_at   BIGINT NOT NULL
);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE invitations (
  token_hash BYTEA PRIMARY KEY,
  operator   TEXT NOT NULL,
  roles      TEXT NOT NULL, -- JSON array
  inviter    TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at    BIGINT NOT NULL
);

-- Sign-ins under way: challenges and states, each taken once.
CREATE TABLE signin_steps (
  id         BYTEA PRIMARY KEY,
  kind       TEXT NOT NULL,
  body       BYTEA NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX signin_steps_expiry ON signin_steps (expires_at);
