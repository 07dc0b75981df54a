-- +goose Up
-- How often each key was used, moved in the transaction of the leaf that says so. since is the first leaf counted.
CREATE TABLE signature_counters (
  key_hash  BLOB PRIMARY KEY,
  announced INTEGER NOT NULL,
  made      INTEGER NOT NULL,
  since     INTEGER NOT NULL
) STRICT;
