-- +goose Up
-- Results of the public analyser that somebody may share: by the hash of an id that cannot be guessed, until they expire.
CREATE TABLE check_results (
  id_hash    BLOB NOT NULL PRIMARY KEY,
  expires_at INTEGER NOT NULL,
  body       BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX check_results_expiry ON check_results (expires_at);
