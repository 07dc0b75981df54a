-- +goose Up
-- How far each certificate transparency log was read, and what was seen of our own authorities there.
CREATE TABLE ct_monitors (
  log_id  BYTEA PRIMARY KEY,
  log     TEXT NOT NULL,
  first   BIGINT NOT NULL,
  entries BIGINT NOT NULL,
  size    BIGINT NOT NULL,
  root    BYTEA NOT NULL,
  at      BIGINT NOT NULL,
  ours    BIGINT NOT NULL,
  unknown BIGINT NOT NULL
);
