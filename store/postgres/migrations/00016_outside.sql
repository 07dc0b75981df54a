-- +goose Up
-- Who took an alarm, and why.
ALTER TABLE alarms ADD COLUMN acked_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE alarms ADD COLUMN acked_by TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE alarms ADD COLUMN ack_reason TEXT COLLATE "C" NOT NULL DEFAULT '';

-- The way of an alarm to a receiver of the configuration.
CREATE TABLE alarm_deliveries (
  alarm    BIGINT NOT NULL REFERENCES alarms (seq),
  receiver TEXT COLLATE "C" NOT NULL,
  state    TEXT COLLATE "C" NOT NULL CHECK (state IN ('pending', 'done', 'failed')),
  attempts BIGINT NOT NULL,
  next_at  BIGINT NOT NULL,
  at       BIGINT NOT NULL,
  error    TEXT COLLATE "C" NOT NULL,
  PRIMARY KEY (alarm, receiver)
);

-- Which change spoke of a certificate.
CREATE INDEX change_items_certificate ON change_items (issuer, serial);
