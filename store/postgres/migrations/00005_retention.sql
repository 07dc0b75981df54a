-- +goose Up
-- Who was told that a certificate expires: recipient '' stands for everybody of the channel, a threshold in seconds for
-- itself and every larger one.
CREATE TABLE notices (
  issuer    TEXT COLLATE "C" NOT NULL,
  serial    BYTEA NOT NULL,
  channel   TEXT COLLATE "C" NOT NULL,
  recipient TEXT COLLATE "C" NOT NULL,
  threshold BIGINT NOT NULL,
  at        BIGINT NOT NULL,
  PRIMARY KEY (issuer, serial, channel, recipient, threshold)
);

-- Serials whose rows are gone: they were issued, which the record must not forget.
CREATE TABLE pruned (
  issuer TEXT COLLATE "C" NOT NULL,
  serial BYTEA NOT NULL,
  PRIMARY KEY (issuer, serial)
);

-- What is over, by date.
CREATE INDEX orders_expiry ON orders (expires_at);
CREATE INDEX authorizations_over ON authorizations (expires_at) WHERE state IN ('pending', 'invalid', 'expired');
