-- +goose Up
-- Who was told that a certificate expires: recipient '' stands for everybody of the channel, a threshold in seconds for
-- itself and every larger one.
CREATE TABLE notices (
  issuer    TEXT NOT NULL,
  serial    BLOB NOT NULL,
  channel   TEXT NOT NULL,
  recipient TEXT NOT NULL,
  threshold INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (issuer, serial, channel, recipient, threshold)
) STRICT, WITHOUT ROWID;

-- Serials whose rows are gone: they were issued, which the record must not forget.
CREATE TABLE pruned (
  issuer TEXT NOT NULL,
  serial BLOB NOT NULL,
  PRIMARY KEY (issuer, serial)
) STRICT, WITHOUT ROWID;

-- What is over, by date.
CREATE INDEX orders_expiry ON orders (expires_at);
CREATE INDEX authorizations_over ON authorizations (expires_at) WHERE state IN ('pending', 'invalid', 'expired');
