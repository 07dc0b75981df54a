-- +goose Up
-- Results of the public analyser that somebody may share: by the hash of an id that cannot be guessed, until they expire.
CREATE TABLE check_results (
  id_hash    BYTEA NOT NULL PRIMARY KEY,
  expires_at BIGINT NOT NULL,
  body       BYTEA NOT NULL
);
CREATE INDEX check_results_expiry ON check_results (expires_at);
