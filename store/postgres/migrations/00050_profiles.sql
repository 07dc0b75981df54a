-- +goose Up
-- Versions of certificate profiles that people approved, in the order in which they came into force. Rows are only added; the
-- text and the signatures under it are the request's.
CREATE TABLE profile_versions (
  seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name         TEXT COLLATE "C" NOT NULL,
  version      BIGINT NOT NULL,
  digest       BYTEA NOT NULL,
  request      TEXT COLLATE "C" NOT NULL,
  activated_at BIGINT NOT NULL,
  UNIQUE (name, version, request)
);
