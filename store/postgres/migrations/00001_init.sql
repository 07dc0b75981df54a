-- +goose Up
-- Times are unix seconds in UTC, 0 for none. Digests and serials are blobs, empty for none; a serial has 20 octets,
-- left-padded, so that its byte order is its numeric order. Texts that are compared in order have collation C.

-- The committed record of evidence: sequenced without gaps and hash-chained in the transaction it speaks of.
CREATE TABLE evidence (
  seq   BIGINT PRIMARY KEY,
  leaf  BYTEA NOT NULL,
  chain BYTEA NOT NULL
);

-- One row: where the next evidence row goes. Whoever appends holds it until commit.
CREATE TABLE evidence_head (
  id    BIGINT PRIMARY KEY CHECK (id = 1),
  seq   BIGINT NOT NULL,
  chain BYTEA NOT NULL
);
INSERT INTO evidence_head (id, seq, chain) VALUES (1, 0, decode(repeat('00', 32), 'hex'));

CREATE TABLE authorities (
  id          TEXT COLLATE "C" PRIMARY KEY,
  kind        TEXT COLLATE "C" NOT NULL,
  state       TEXT NOT NULL,
  parent      TEXT COLLATE "C" NOT NULL,
  subject     BYTEA NOT NULL,
  spki        BYTEA NOT NULL,
  certificate BYTEA NOT NULL,
  chain       TEXT NOT NULL, -- JSON array of base64 DER
  csr         BYTEA NOT NULL,
  key_uri     TEXT COLLATE "C" NOT NULL,
  shards      BIGINT NOT NULL,
  successor   TEXT COLLATE "C" NOT NULL,
  created_at  BIGINT NOT NULL
);

-- A certificate is known by the evidence of its intent: intent_seq is the row, so rows lie in the order of reservation.
CREATE TABLE certificates (
  intent_seq         BIGINT PRIMARY KEY REFERENCES evidence (seq),
  issuer             TEXT COLLATE "C" NOT NULL,
  serial             BYTEA NOT NULL CHECK (length(serial) = 20),
  kind               TEXT COLLATE "C" NOT NULL,
  state              TEXT NOT NULL CHECK (state IN ('reserved', 'issued', 'revoked', 'abandoned')),
  profile            TEXT NOT NULL,
  names              TEXT NOT NULL, -- JSON array of identifiers
  subject            TEXT NOT NULL,
  key_hash           BYTEA NOT NULL,
  intent_digest      BYTEA NOT NULL,
  fingerprint        BYTEA NOT NULL,
  account_id         TEXT COLLATE "C" NOT NULL,
  order_id           TEXT COLLATE "C" NOT NULL,
  not_before         BIGINT NOT NULL,
  not_after          BIGINT NOT NULL,
  shard              BIGINT NOT NULL,
  revoked_at         BIGINT NOT NULL,
  reason             BIGINT NOT NULL,
  reserved_at        BIGINT NOT NULL,
  replaces_issuer    TEXT NOT NULL,
  replaces_serial    BYTEA NOT NULL,
  replaced_by_issuer TEXT NOT NULL,
  replaced_by_serial BYTEA NOT NULL,
  outcome_seq        BIGINT NOT NULL
);
CREATE UNIQUE INDEX certificates_ref ON certificates (issuer, serial);
CREATE INDEX certificates_key ON certificates (key_hash);
CREATE INDEX certificates_account ON certificates (account_id) WHERE account_id <> '';
CREATE INDEX certificates_order ON certificates (order_id) WHERE order_id <> '';
CREATE INDEX certificates_outcome ON certificates (issuer, outcome_seq) WHERE outcome_seq > 0;
CREATE INDEX certificates_open ON certificates (reserved_at) WHERE state = 'reserved';
CREATE INDEX certificates_revoked ON certificates (issuer, shard, serial) WHERE state = 'revoked';

-- The certificates themselves, apart from the rows that every question reads.
CREATE TABLE certificate_ders (
  intent_seq BIGINT PRIMARY KEY REFERENCES certificates (intent_seq),
  der        BYTEA NOT NULL
);

-- Names reversed, so that one index serves an exact name and a suffix.
CREATE TABLE certificate_names (
  reversed   TEXT COLLATE "C" NOT NULL,
  intent_seq BIGINT NOT NULL REFERENCES certificates (intent_seq),
  PRIMARY KEY (reversed, intent_seq)
);

CREATE TABLE blocked_keys (
  key_hash   BYTEA PRIMARY KEY,
  blocked_at BIGINT NOT NULL,
  reason     TEXT NOT NULL,
  actor      TEXT NOT NULL
);

CREATE TABLE delegates (
  seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  authority   TEXT COLLATE "C" NOT NULL,
  key_uri     TEXT COLLATE "C" NOT NULL,
  certificate BYTEA NOT NULL,
  not_before  BIGINT NOT NULL,
  not_after   BIGINT NOT NULL,
  UNIQUE (authority, key_uri)
);

CREATE TABLE accounts (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id         TEXT COLLATE "C" NOT NULL UNIQUE,
  state      TEXT NOT NULL,
  thumbprint TEXT COLLATE "C" NOT NULL,
  jwk        BYTEA NOT NULL,
  token_hash BYTEA NOT NULL,
  contacts   TEXT NOT NULL, -- JSON array
  terms_at   BIGINT NOT NULL,
  operator   BOOLEAN NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX accounts_thumbprint ON accounts (thumbprint) WHERE thumbprint <> '';
CREATE UNIQUE INDEX accounts_token ON accounts (token_hash) WHERE length(token_hash) > 0;

CREATE TABLE orders (
  seq              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id               TEXT COLLATE "C" NOT NULL UNIQUE,
  account_id       TEXT COLLATE "C" NOT NULL,
  state            TEXT NOT NULL,
  identifiers      TEXT NOT NULL, -- JSON array of identifiers
  authorizations   TEXT NOT NULL, -- JSON array of ids
  profile          TEXT NOT NULL,
  authority        TEXT COLLATE "C" NOT NULL,
  csr              BYTEA NOT NULL,
  issuer           TEXT COLLATE "C" NOT NULL,
  serial           BYTEA NOT NULL,
  replaces_issuer  TEXT NOT NULL,
  replaces_serial  BYTEA NOT NULL,
  problem          TEXT NOT NULL, -- JSON, '' for none
  expires_at       BIGINT NOT NULL,
  created_at       BIGINT NOT NULL,
  processing_since BIGINT NOT NULL
);
CREATE INDEX orders_account ON orders (account_id, seq);
CREATE INDEX orders_state ON orders (state, seq);
-- RFC 9773 section 5: one order that is not invalid claims a certificate to replace.
CREATE UNIQUE INDEX orders_replaces ON orders (replaces_issuer, replaces_serial)
  WHERE replaces_issuer <> '' AND state <> 'invalid';

CREATE TABLE authorizations (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id         TEXT COLLATE "C" NOT NULL UNIQUE,
  account_id TEXT COLLATE "C" NOT NULL,
  name_type  TEXT NOT NULL,
  name       TEXT COLLATE "C" NOT NULL,
  wildcard   BOOLEAN NOT NULL,
  state      TEXT NOT NULL,
  challenges TEXT NOT NULL, -- JSON array
  expires_at BIGINT NOT NULL,
  created_at BIGINT NOT NULL
);
CREATE INDEX authorizations_claim ON authorizations (account_id, name);

CREATE TABLE order_authorizations (
  order_id         TEXT COLLATE "C" NOT NULL REFERENCES orders (id),
  authorization_id TEXT COLLATE "C" NOT NULL REFERENCES authorizations (id),
  PRIMARY KEY (order_id, authorization_id)
);
CREATE INDEX order_authorizations_back ON order_authorizations (authorization_id);

CREATE TABLE validations (
  seq              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id               TEXT COLLATE "C" NOT NULL UNIQUE,
  authorization_id TEXT COLLATE "C" NOT NULL REFERENCES authorizations (id),
  account_id       TEXT COLLATE "C" NOT NULL,
  name_type        TEXT NOT NULL,
  name             TEXT COLLATE "C" NOT NULL,
  wildcard         BOOLEAN NOT NULL,
  method           TEXT NOT NULL,
  at               BIGINT NOT NULL,
  reuse_until      BIGINT NOT NULL,
  detail           TEXT NOT NULL
);
CREATE INDEX validations_authorization ON validations (authorization_id);
CREATE INDEX validations_name ON validations (name, at);

CREATE TABLE caa_checks (
  seq         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id    TEXT COLLATE "C" NOT NULL,
  name_type   TEXT NOT NULL,
  name        TEXT COLLATE "C" NOT NULL,
  at          BIGINT NOT NULL,
  valid_until BIGINT NOT NULL,
  result      TEXT NOT NULL,
  detail      TEXT NOT NULL
);
CREATE INDEX caa_checks_order ON caa_checks (order_id);
CREATE INDEX caa_checks_name ON caa_checks (name, at);

CREATE TABLE changes (
  seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id           TEXT COLLATE "C" NOT NULL UNIQUE,
  state        TEXT NOT NULL,
  actor        TEXT NOT NULL,
  why          TEXT NOT NULL,
  items        BIGINT NOT NULL,
  preview_hash BYTEA NOT NULL,
  preview      BYTEA NOT NULL,
  epoch        BIGINT NOT NULL,
  created_at   BIGINT NOT NULL,
  activated_at BIGINT NOT NULL
);
CREATE INDEX changes_state ON changes (state, seq);

CREATE TABLE change_items (
  change_seq BIGINT NOT NULL REFERENCES changes (seq),
  issuer     TEXT COLLATE "C" NOT NULL,
  serial     BYTEA NOT NULL,
  reason     BIGINT NOT NULL,
  revoked_at BIGINT NOT NULL CHECK (revoked_at > 0),
  PRIMARY KEY (change_seq, issuer, serial)
);

CREATE TABLE heads (
  sequence BIGINT PRIMARY KEY,
  body     BYTEA NOT NULL,
  at       BIGINT NOT NULL
);

CREATE TABLE crl_numbers (
  authority TEXT COLLATE "C" NOT NULL,
  shard     BIGINT NOT NULL,
  number    BIGINT NOT NULL,
  PRIMARY KEY (authority, shard)
);

CREATE TABLE crls (
  authority   TEXT COLLATE "C" NOT NULL,
  shard       BIGINT NOT NULL,
  number      BIGINT NOT NULL,
  this_update BIGINT NOT NULL,
  next_update BIGINT NOT NULL,
  object      TEXT NOT NULL,
  digest      BYTEA NOT NULL,
  entries     BIGINT NOT NULL,
  PRIMARY KEY (authority, shard)
);

CREATE TABLE prepared (
  authority   TEXT COLLATE "C" NOT NULL,
  kind        TEXT COLLATE "C" NOT NULL,
  not_before  BIGINT NOT NULL,
  digest      BYTEA NOT NULL,
  not_after   BIGINT NOT NULL,
  der         BYTEA NOT NULL,
  key_uri     TEXT COLLATE "C" NOT NULL,
  crl_number  BIGINT NOT NULL,
  imported_at BIGINT NOT NULL,
  PRIMARY KEY (authority, not_before, kind, digest)
);

CREATE TABLE operators (
  name       TEXT COLLATE "C" PRIMARY KEY,
  public_key BYTEA NOT NULL,
  roles      TEXT NOT NULL, -- JSON array
  added_at   BIGINT NOT NULL,
  removed_at BIGINT NOT NULL
);

CREATE TABLE requests (
  seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id         TEXT COLLATE "C" NOT NULL UNIQUE,
  action     TEXT NOT NULL,
  payload    BYTEA NOT NULL,
  digest     BYTEA NOT NULL,
  needed     BIGINT NOT NULL,
  state      TEXT NOT NULL,
  actor      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL
);
CREATE INDEX requests_state ON requests (state, seq);

CREATE TABLE approvals (
  request_id TEXT COLLATE "C" NOT NULL REFERENCES requests (id),
  operator   TEXT COLLATE "C" NOT NULL,
  key_hash   BYTEA NOT NULL,
  signature  BYTEA NOT NULL,
  at         BIGINT NOT NULL,
  PRIMARY KEY (request_id, operator)
);

CREATE TABLE alarms (
  seq      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  detector TEXT COLLATE "C" NOT NULL,
  key      TEXT NOT NULL,
  severity TEXT NOT NULL,
  message  TEXT NOT NULL,
  runbook  TEXT NOT NULL,
  first_at BIGINT NOT NULL,
  last_at  BIGINT NOT NULL,
  count    BIGINT NOT NULL,
  UNIQUE (detector, key)
);
CREATE INDEX alarms_last ON alarms (last_at, seq);
