-- +goose Up
-- Registration partners, the people at them, and what they used of their volume.
CREATE TABLE partners (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id         TEXT COLLATE "C" NOT NULL UNIQUE,
  title      TEXT COLLATE "C" NOT NULL,
  state      TEXT COLLATE "C" NOT NULL,
  scope      TEXT COLLATE "C" NOT NULL, -- JSON
  created_at BIGINT NOT NULL
);

CREATE TABLE partner_people (
  partner    TEXT COLLATE "C" NOT NULL REFERENCES partners (id),
  name       TEXT COLLATE "C" NOT NULL,
  token_hash BYTEA NOT NULL,
  created_at BIGINT NOT NULL,
  revoked_at BIGINT NOT NULL,
  PRIMARY KEY (partner, name)
);
CREATE UNIQUE INDEX partner_people_token ON partner_people (token_hash) WHERE length(token_hash) > 0;

-- Reservations of each hour of the clock, counted in the transaction that makes them.
CREATE TABLE partner_use (
  partner TEXT COLLATE "C" NOT NULL,
  hour    BIGINT NOT NULL,
  used    BIGINT NOT NULL,
  PRIMARY KEY (partner, hour)
);

-- Second approvals of orders for names on the high-value list.
CREATE TABLE second_approvals (
  order_id TEXT COLLATE "C" NOT NULL,
  actor    TEXT COLLATE "C" NOT NULL,
  at       BIGINT NOT NULL,
  PRIMARY KEY (order_id, actor)
);
