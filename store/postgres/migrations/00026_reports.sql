-- +goose Up
-- What people wrote for the reports of an incident. The newest number counts.
CREATE TABLE incident_fields (
  incident TEXT COLLATE "C" NOT NULL,
  field    TEXT COLLATE "C" NOT NULL,
  number   BIGINT NOT NULL,
  text     TEXT COLLATE "C" NOT NULL,
  actor    TEXT COLLATE "C" NOT NULL,
  at       BIGINT NOT NULL,
  leaf_seq BIGINT NOT NULL,
  PRIMARY KEY (incident, field, number)
);

-- A time at which everybody concerned is told.
CREATE TABLE notice_steps (
  incident  TEXT COLLATE "C" NOT NULL,
  step      TEXT COLLATE "C" NOT NULL,
  day       TEXT COLLATE "C" NOT NULL,
  what      TEXT COLLATE "C" NOT NULL,
  todo      TEXT COLLATE "C" NOT NULL,
  until     BIGINT NOT NULL,
  actor     TEXT COLLATE "C" NOT NULL,
  at        BIGINT NOT NULL,
  leaf_seq  BIGINT NOT NULL,
  PRIMARY KEY (incident, step)
);

-- One message of a step to one recipient: nobody is told twice.
CREATE TABLE incident_notices (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  incident   TEXT COLLATE "C" NOT NULL,
  step       TEXT COLLATE "C" NOT NULL,
  channel    TEXT COLLATE "C" NOT NULL,
  recipient  TEXT COLLATE "C" NOT NULL,
  account_id TEXT COLLATE "C" NOT NULL,
  partner    TEXT COLLATE "C" NOT NULL,
  language   TEXT COLLATE "C" NOT NULL,
  items      BIGINT NOT NULL,
  message_id TEXT COLLATE "C" NOT NULL,
  state      TEXT COLLATE "C" NOT NULL,
  tries      BIGINT NOT NULL,
  moved_at   BIGINT NOT NULL,
  problem    TEXT COLLATE "C" NOT NULL,
  UNIQUE (incident, step, channel, recipient, account_id, partner)
);
CREATE INDEX incident_notices_state ON incident_notices (incident, step, state, seq);
CREATE INDEX incident_notices_message ON incident_notices (message_id);
CREATE INDEX incident_notices_bad ON incident_notices (seq) WHERE state IN ('bounced', 'no-contact');
