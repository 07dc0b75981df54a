-- +goose Up
-- How often each key was used, moved in the transaction of the leaf that says so. since is the first leaf counted.
CREATE TABLE signature_counters (
  key_hash  BYTEA PRIMARY KEY,
  announced BIGINT NOT NULL,
  made      BIGINT NOT NULL,
  since     BIGINT NOT NULL
);
