-- +goose Up
-- Keys with which an operator lets one account be made each (RFC 8555 section 7.3.4). The MAC keys are not here.
CREATE TABLE external_keys (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id         TEXT COLLATE "C" NOT NULL UNIQUE,
  note       TEXT COLLATE "C" NOT NULL,
  actor      TEXT COLLATE "C" NOT NULL,
  account_id TEXT COLLATE "C" NOT NULL, -- '' while unused
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  used_at    BIGINT NOT NULL,
  revoked_at BIGINT NOT NULL
);

-- State of the rate limits (GCRA): the theoretical arrival time of the next unit, in unix microseconds. A row whose time
-- has passed says nothing and may go.
CREATE TABLE rate_limits (
  key TEXT COLLATE "C" PRIMARY KEY,
  tat BIGINT NOT NULL
);
CREATE INDEX rate_limits_tat ON rate_limits (tat);

-- For "which authorisations were validated since, by this method".
CREATE INDEX validations_at ON validations (at);
