-- +goose Up
-- The highest number of each shard's CRL that the watch has seen public: a restart must not forget it.
CREATE TABLE crl_seen (
  issuer  TEXT NOT NULL,
  shard   BIGINT NOT NULL,
  number  BIGINT NOT NULL,
  at      BIGINT NOT NULL,
  PRIMARY KEY (issuer, shard)
);
