-- +goose Up
-- The highest number of each shard's CRL that the watch has seen public: a restart must not forget it.
CREATE TABLE crl_seen (
  issuer  TEXT NOT NULL,
  shard   INTEGER NOT NULL,
  number  INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  PRIMARY KEY (issuer, shard)
) STRICT;
