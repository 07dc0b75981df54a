-- What the migrations add up to. Written by: go test ./store/sqlite -run TestSchema -update

CREATE TABLE accounts (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  state      TEXT NOT NULL,
  thumbprint TEXT NOT NULL,
  jwk        BLOB NOT NULL,
  token_hash BLOB NOT NULL,
  contacts   TEXT NOT NULL, -- JSON array
  terms_at   INTEGER NOT NULL,
  operator   INTEGER NOT NULL,
  created_at INTEGER NOT NULL
, partner TEXT NOT NULL DEFAULT '', creator TEXT NOT NULL DEFAULT '', roll_due INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE INDEX accounts_partner ON accounts (partner, seq) WHERE partner <> '';

CREATE UNIQUE INDEX accounts_thumbprint ON accounts (thumbprint) WHERE thumbprint <> '';

CREATE UNIQUE INDEX accounts_token ON accounts (token_hash) WHERE length(token_hash) > 0;

CREATE TABLE alarm_deliveries (
  alarm    INTEGER NOT NULL REFERENCES alarms (seq),
  receiver TEXT NOT NULL,
  state    TEXT NOT NULL CHECK (state IN ('pending', 'done', 'failed')),
  attempts INTEGER NOT NULL,
  next_at  INTEGER NOT NULL,
  at       INTEGER NOT NULL,
  error    TEXT NOT NULL,
  PRIMARY KEY (alarm, receiver)
) STRICT, WITHOUT ROWID;

CREATE TABLE alarms (
  seq      INTEGER PRIMARY KEY,
  detector TEXT NOT NULL,
  key      TEXT NOT NULL,
  severity TEXT NOT NULL,
  message  TEXT NOT NULL,
  runbook  TEXT NOT NULL,
  first_at INTEGER NOT NULL,
  last_at  INTEGER NOT NULL,
  count    INTEGER NOT NULL, acked_at INTEGER NOT NULL DEFAULT 0, acked_by TEXT NOT NULL DEFAULT '', ack_reason TEXT NOT NULL DEFAULT '',
  UNIQUE (detector, key)
) STRICT;

CREATE INDEX alarms_last ON alarms (last_at, seq);

CREATE TABLE approvals (
  request_id TEXT NOT NULL REFERENCES requests (id),
  operator   TEXT NOT NULL,
  key_hash   BLOB NOT NULL,
  signature  BLOB NOT NULL,
  at         INTEGER NOT NULL,
  PRIMARY KEY (request_id, operator)
) STRICT;

CREATE TABLE authorities (
  id          TEXT PRIMARY KEY,
  kind        TEXT NOT NULL,
  state       TEXT NOT NULL,
  parent      TEXT NOT NULL,
  subject     BLOB NOT NULL,
  spki        BLOB NOT NULL,
  certificate BLOB NOT NULL,
  chain       TEXT NOT NULL, -- JSON array of base64 DER
  csr         BLOB NOT NULL,
  key_uri     TEXT NOT NULL,
  shards      INTEGER NOT NULL,
  successor   TEXT NOT NULL,
  created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE authorizations (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  account_id TEXT NOT NULL,
  name_type  TEXT NOT NULL,
  name       TEXT NOT NULL,
  wildcard   INTEGER NOT NULL,
  state      TEXT NOT NULL,
  challenges TEXT NOT NULL, -- JSON array
  expires_at INTEGER NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX authorizations_claim ON authorizations (account_id, name);

CREATE INDEX authorizations_over ON authorizations (expires_at) WHERE state = 'pending' OR state = 'invalid' OR state = 'expired';

CREATE TABLE blocked_keys (
  key_hash   BLOB PRIMARY KEY,
  blocked_at INTEGER NOT NULL,
  reason     TEXT NOT NULL,
  actor      TEXT NOT NULL
) STRICT;

CREATE TABLE caa_checks (
  seq         INTEGER PRIMARY KEY,
  order_id    TEXT NOT NULL,
  name_type   TEXT NOT NULL,
  name        TEXT NOT NULL,
  at          INTEGER NOT NULL,
  valid_until INTEGER NOT NULL,
  result      TEXT NOT NULL,
  detail      TEXT NOT NULL
) STRICT;

CREATE INDEX caa_checks_order ON caa_checks (order_id);

CREATE TABLE campaign_attempts (
  seq          INTEGER PRIMARY KEY,
  campaign_seq INTEGER NOT NULL REFERENCES campaigns (seq),
  key_hash     BLOB NOT NULL,
  account_id   TEXT NOT NULL,
  order_id     TEXT NOT NULL,
  at           INTEGER NOT NULL
) STRICT;

CREATE INDEX campaign_attempts_campaign ON campaign_attempts (campaign_seq);

CREATE TABLE "campaign_items" (
  campaign_seq       INTEGER NOT NULL REFERENCES campaigns (seq),
  ordinal            INTEGER NOT NULL, -- position in the plan, from 1
  intent_seq         INTEGER NOT NULL,
  issuer             TEXT NOT NULL,
  serial             BLOB NOT NULL,
  wave               INTEGER NOT NULL,
  state              TEXT NOT NULL,
  product            TEXT NOT NULL,
  account_id         TEXT NOT NULL,
  order_id           TEXT NOT NULL,
  name               TEXT NOT NULL,
  key_hash           BLOB NOT NULL,
  own                INTEGER NOT NULL,
  critical           INTEGER NOT NULL,
  notify_at          INTEGER NOT NULL,
  window_start       INTEGER NOT NULL,
  window_end         INTEGER NOT NULL,
  revoke_at          INTEGER NOT NULL,
  deadline           INTEGER NOT NULL,
  not_after          INTEGER NOT NULL,
  replacement_issuer TEXT NOT NULL,
  replacement_serial BLOB NOT NULL,
  vulnerable         INTEGER NOT NULL,
  change_id          TEXT NOT NULL,
  detail             TEXT NOT NULL,
  moved_at           INTEGER NOT NULL,
  path               TEXT NOT NULL DEFAULT '', move_seq INTEGER NOT NULL DEFAULT 0, -- rows of campaign_moves that it went through, each after a comma
  PRIMARY KEY (campaign_seq, ordinal)
) STRICT, WITHOUT ROWID;

CREATE INDEX campaign_items_account ON campaign_items (account_id, name);

CREATE INDEX campaign_items_early ON campaign_items (campaign_seq, ordinal) WHERE state = 'notified' AND replacement_issuer <> '';

CREATE INDEX campaign_items_going ON campaign_items (campaign_seq, state, ordinal) WHERE state <> 'planned' AND state <> 'old-revoked' AND state <> 'expired';

CREATE UNIQUE INDEX campaign_items_intent ON campaign_items (campaign_seq, intent_seq);

CREATE INDEX campaign_items_own ON campaign_items (campaign_seq, state) WHERE own = 1;

CREATE TABLE campaign_jobs (
  seq          INTEGER PRIMARY KEY,
  campaign_seq INTEGER NOT NULL REFERENCES campaigns (seq),
  generation   INTEGER NOT NULL,
  kind         TEXT NOT NULL,
  first        INTEGER NOT NULL,
  last         INTEGER NOT NULL,
  due_at       INTEGER NOT NULL,
  done         INTEGER NOT NULL,
  holder       TEXT NOT NULL,
  lease_until  INTEGER NOT NULL,
  change_id    TEXT NOT NULL,
  tries        INTEGER NOT NULL,
  problem      TEXT NOT NULL
) STRICT;

CREATE INDEX campaign_jobs_after_hold ON campaign_jobs (campaign_seq, generation, first) WHERE kind = 'after-hold';

CREATE INDEX campaign_jobs_due ON campaign_jobs (campaign_seq, generation, due_at) WHERE done = 0;

CREATE TABLE campaign_keys (
  key_hash     BLOB NOT NULL,
  campaign_seq INTEGER NOT NULL REFERENCES campaigns (seq),
  PRIMARY KEY (key_hash, campaign_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE campaign_moves (
  seq          INTEGER PRIMARY KEY,
  campaign_seq INTEGER NOT NULL REFERENCES campaigns (seq),
  state        TEXT NOT NULL,
  at           INTEGER NOT NULL,
  leaf_seq     INTEGER NOT NULL, -- the evidence
  detail       TEXT NOT NULL
, change_id TEXT NOT NULL DEFAULT '') STRICT;

CREATE TABLE campaign_steps (
  campaign_seq INTEGER NOT NULL,
  intent_seq   INTEGER NOT NULL,
  number       INTEGER NOT NULL,
  state        TEXT NOT NULL,
  at           INTEGER NOT NULL,
  leaf_seq     INTEGER NOT NULL,
  detail       TEXT NOT NULL,
  PRIMARY KEY (campaign_seq, intent_seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE campaigns (
  seq         INTEGER PRIMARY KEY,
  id          TEXT NOT NULL UNIQUE,
  incident    TEXT NOT NULL,
  state       TEXT NOT NULL,
  generation  INTEGER NOT NULL, -- of the plan in force; work of an older one is void
  plan_hash   BLOB NOT NULL,
  parent_hash BLOB NOT NULL,
  plan        BLOB NOT NULL, -- JSON without the assignments, which are the items
  needs       TEXT NOT NULL, -- JSON
  tickets     INTEGER NOT NULL,
  reason      INTEGER NOT NULL,
  items       INTEGER NOT NULL,
  deadline    INTEGER NOT NULL,
  force_at    INTEGER NOT NULL,
  approval    TEXT NOT NULL,
  actor       TEXT NOT NULL,
  created_at  INTEGER NOT NULL,
  started_at  INTEGER NOT NULL,
  closed_at   INTEGER NOT NULL,
  cursor      INTEGER NOT NULL  -- outcome up to which new certificates were looked at for replacements
) STRICT;

CREATE UNIQUE INDEX campaigns_incident ON campaigns (incident) WHERE state <> 'closed';

CREATE TABLE ceremonies (
  digest      BLOB PRIMARY KEY,
  previous    BLOB NOT NULL,
  root        BLOB NOT NULL,
  title       TEXT NOT NULL,
  rehearsal   INTEGER NOT NULL,
  change_id   TEXT NOT NULL,
  began_at    INTEGER NOT NULL,
  finished_at INTEGER NOT NULL,
  imported_at INTEGER NOT NULL,
  actor       TEXT NOT NULL,
  signed      BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE certificate_ders (
  intent_seq INTEGER PRIMARY KEY REFERENCES certificates (intent_seq),
  der        BLOB NOT NULL
) STRICT;

CREATE TABLE certificate_names (
  reversed   TEXT NOT NULL,
  intent_seq INTEGER NOT NULL REFERENCES certificates (intent_seq),
  PRIMARY KEY (reversed, intent_seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE certificates (
  intent_seq         INTEGER PRIMARY KEY REFERENCES evidence (seq),
  issuer             TEXT NOT NULL,
  serial             BLOB NOT NULL CHECK (length(serial) = 20),
  kind               TEXT NOT NULL,
  state              TEXT NOT NULL CHECK (state = 'issued' OR state = 'reserved' OR state = 'revoked' OR state = 'abandoned'),
  profile            TEXT NOT NULL,
  names              TEXT NOT NULL, -- JSON array of identifiers
  subject            TEXT NOT NULL,
  key_hash           BLOB NOT NULL,
  intent_digest      BLOB NOT NULL,
  fingerprint        BLOB NOT NULL,
  account_id         TEXT NOT NULL,
  order_id           TEXT NOT NULL,
  not_before         INTEGER NOT NULL,
  not_after          INTEGER NOT NULL,
  shard              INTEGER NOT NULL,
  revoked_at         INTEGER NOT NULL,
  reason             INTEGER NOT NULL,
  reserved_at        INTEGER NOT NULL,
  replaces_issuer    TEXT NOT NULL,
  replaces_serial    BLOB NOT NULL,
  replaced_by_issuer TEXT NOT NULL,
  replaced_by_serial BLOB NOT NULL,
  outcome_seq        INTEGER NOT NULL
) STRICT;

CREATE INDEX certificates_account ON certificates (account_id) WHERE account_id <> '';

CREATE INDEX certificates_ca ON certificates (issuer, serial) WHERE kind = 'ca';

CREATE INDEX certificates_expiry ON certificates (not_after);

CREATE INDEX certificates_issued ON certificates (reserved_at);

CREATE INDEX certificates_issuer ON certificates (issuer, intent_seq);

CREATE INDEX certificates_key ON certificates (key_hash);

CREATE INDEX certificates_open ON certificates (reserved_at) WHERE state = 'reserved';

CREATE INDEX certificates_order ON certificates (order_id) WHERE order_id <> '';

CREATE INDEX certificates_outcome ON certificates (issuer, outcome_seq) WHERE outcome_seq > 0;

CREATE INDEX certificates_outcome_any ON certificates (outcome_seq) WHERE outcome_seq > 0 AND kind = 'leaf';

CREATE INDEX certificates_product ON certificates (issuer, profile, not_after, kind) WHERE state = 'issued' AND kind IN ('leaf', 'infra');

CREATE UNIQUE INDEX certificates_ref ON certificates (issuer, serial);

CREATE INDEX certificates_revoked ON certificates (issuer, shard, serial, revoked_at, reason, not_after) WHERE state = 'revoked';

CREATE TABLE change_evidence (
  change_id TEXT NOT NULL,
  seq       INTEGER NOT NULL REFERENCES evidence (seq),
  PRIMARY KEY (change_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE change_items (
  change_seq INTEGER NOT NULL REFERENCES changes (seq),
  issuer     TEXT NOT NULL,
  serial     BLOB NOT NULL,
  reason     INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL CHECK (revoked_at > 0), was_reason INTEGER NOT NULL DEFAULT 0, was_revoked_at INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (change_seq, issuer, serial)
) STRICT, WITHOUT ROWID;

CREATE INDEX change_items_certificate ON change_items (issuer, serial);

CREATE TABLE changes (
  seq          INTEGER PRIMARY KEY,
  id           TEXT NOT NULL UNIQUE,
  state        TEXT NOT NULL,
  actor        TEXT NOT NULL,
  why          TEXT NOT NULL,
  items        INTEGER NOT NULL,
  preview_hash BLOB NOT NULL,
  preview      BLOB NOT NULL,
  epoch        INTEGER NOT NULL,
  created_at   INTEGER NOT NULL,
  activated_at INTEGER NOT NULL
, undoes TEXT NOT NULL DEFAULT '', incident TEXT NOT NULL DEFAULT '', rule TEXT NOT NULL DEFAULT '', was_kept INTEGER NOT NULL DEFAULT 0, problem TEXT NOT NULL DEFAULT '', dies_at INTEGER NOT NULL DEFAULT 0, held_until INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE INDEX changes_epoch ON changes (epoch) WHERE epoch > 0;

CREATE INDEX changes_state ON changes (state, seq);

CREATE TABLE check_results (
  id_hash    BLOB NOT NULL PRIMARY KEY,
  expires_at INTEGER NOT NULL,
  body       BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX check_results_expiry ON check_results (expires_at);

CREATE TABLE compromises (
  seq        INTEGER PRIMARY KEY,
  key_hash   BLOB NOT NULL UNIQUE,
  actor      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  at         INTEGER NOT NULL,
  revoked    INTEGER NOT NULL,
  changes    TEXT NOT NULL, -- JSON array of ids
  settled_at INTEGER NOT NULL
) STRICT;

CREATE INDEX compromises_open ON compromises (seq) WHERE settled_at = 0;

CREATE TABLE crl_numbers (
  authority TEXT NOT NULL,
  shard     INTEGER NOT NULL,
  number    INTEGER NOT NULL,
  PRIMARY KEY (authority, shard)
) STRICT, WITHOUT ROWID;

CREATE TABLE crl_seen (
  issuer  TEXT NOT NULL,
  shard   INTEGER NOT NULL,
  number  INTEGER NOT NULL,
  at      INTEGER NOT NULL,
  PRIMARY KEY (issuer, shard)
) STRICT;

CREATE TABLE crls (
  authority   TEXT NOT NULL,
  shard       INTEGER NOT NULL,
  number      INTEGER NOT NULL,
  this_update INTEGER NOT NULL,
  next_update INTEGER NOT NULL,
  object      TEXT NOT NULL,
  digest      BLOB NOT NULL,
  entries     INTEGER NOT NULL,
  PRIMARY KEY (authority, shard)
) STRICT, WITHOUT ROWID;

CREATE TABLE ct_monitors (
  log_id  BLOB PRIMARY KEY,
  log     TEXT NOT NULL,
  first   INTEGER NOT NULL,
  entries INTEGER NOT NULL,
  size    INTEGER NOT NULL,
  root    BLOB NOT NULL,
  at      INTEGER NOT NULL,
  ours    INTEGER NOT NULL,
  unknown INTEGER NOT NULL
) STRICT;

CREATE TABLE delegates (
  seq         INTEGER PRIMARY KEY,
  authority   TEXT NOT NULL,
  key_uri     TEXT NOT NULL,
  certificate BLOB NOT NULL,
  not_before  INTEGER NOT NULL,
  not_after   INTEGER NOT NULL,
  UNIQUE (authority, key_uri)
) STRICT;

CREATE TABLE estate_looks (
  campaign TEXT NOT NULL PRIMARY KEY,
  at       INTEGER NOT NULL,
  body     BLOB NOT NULL -- JSON
) STRICT, WITHOUT ROWID;

CREATE TABLE evidence (
  seq   INTEGER PRIMARY KEY,
  leaf  BLOB NOT NULL,
  chain BLOB NOT NULL
) STRICT;

CREATE TABLE evidence_head (
  id    INTEGER PRIMARY KEY CHECK (id = 1),
  seq   INTEGER NOT NULL,
  chain BLOB NOT NULL
) STRICT;

CREATE TABLE external_keys (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  note       TEXT NOT NULL,
  actor      TEXT NOT NULL,
  account_id TEXT NOT NULL, -- '' while unused
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at    INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL
, partner TEXT NOT NULL DEFAULT '') STRICT;

CREATE TABLE head_turn (
  id INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE heads (
  sequence INTEGER PRIMARY KEY,
  body     BLOB NOT NULL,
  at       INTEGER NOT NULL
) STRICT;

CREATE TABLE held_scopes (
  partner  TEXT NOT NULL PRIMARY KEY,
  scope    TEXT NOT NULL,
  signed   TEXT NOT NULL,
  at       INTEGER NOT NULL
) STRICT;

CREATE TABLE incident_counts (
  incident_seq INTEGER NOT NULL REFERENCES incidents (seq),
  number       INTEGER NOT NULL,
  at           INTEGER NOT NULL,
  items        INTEGER NOT NULL,
  live         INTEGER NOT NULL,
  digest       BLOB NOT NULL,
  why          TEXT NOT NULL,
  actor        TEXT NOT NULL,
  leaf_seq     INTEGER NOT NULL,
  PRIMARY KEY (incident_seq, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE incident_fields (
  incident TEXT NOT NULL,
  field    TEXT NOT NULL,
  number   INTEGER NOT NULL,
  text     TEXT NOT NULL,
  actor    TEXT NOT NULL,
  at       INTEGER NOT NULL,
  leaf_seq INTEGER NOT NULL,
  PRIMARY KEY (incident, field, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE incident_items (
  incident_seq INTEGER NOT NULL REFERENCES incidents (seq),
  intent_seq   INTEGER NOT NULL,
  issuer       TEXT NOT NULL,
  serial       BLOB NOT NULL,
  account_id   TEXT NOT NULL,
  dropped      INTEGER NOT NULL,
  held_why     TEXT NOT NULL,
  held_by      TEXT NOT NULL,
  held_at      INTEGER NOT NULL,
  PRIMARY KEY (incident_seq, intent_seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX incident_items_account ON incident_items (account_id, incident_seq, intent_seq) WHERE account_id <> '';

CREATE INDEX incident_items_held ON incident_items (incident_seq, intent_seq) WHERE held_at > 0;

CREATE TABLE incident_notices (
  seq        INTEGER PRIMARY KEY,
  incident   TEXT NOT NULL,
  step       TEXT NOT NULL,
  channel    TEXT NOT NULL,
  recipient  TEXT NOT NULL,
  account_id TEXT NOT NULL,
  partner    TEXT NOT NULL,
  language   TEXT NOT NULL,
  items      INTEGER NOT NULL,
  message_id TEXT NOT NULL,
  state      TEXT NOT NULL,
  tries      INTEGER NOT NULL,
  moved_at   INTEGER NOT NULL,
  problem    TEXT NOT NULL,
  UNIQUE (incident, step, channel, recipient, account_id, partner)
) STRICT;

CREATE INDEX incident_notices_account ON incident_notices (account_id, incident, step);

CREATE INDEX incident_notices_bad ON incident_notices (seq) WHERE state IN ('bounced', 'no-contact');

CREATE INDEX incident_notices_message ON incident_notices (message_id);

CREATE INDEX incident_notices_open ON incident_notices (incident, step) WHERE state IN ('planned', 'sending');

CREATE INDEX incident_notices_state ON incident_notices (incident, step, state, seq);

CREATE TABLE incidents (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  kind       TEXT NOT NULL,
  parent     TEXT NOT NULL,
  state      TEXT NOT NULL,
  title      TEXT NOT NULL,
  source     TEXT NOT NULL,
  source_ref TEXT NOT NULL,
  playbook   TEXT NOT NULL,
  cause      TEXT NOT NULL,
  reason     INTEGER NOT NULL,
  aware_at   INTEGER NOT NULL,
  opened_at  INTEGER NOT NULL,
  closed_at  INTEGER NOT NULL,
  actor      TEXT NOT NULL,
  duties     TEXT NOT NULL, -- JSON
  scope      TEXT NOT NULL, -- JSON
  deadlines  TEXT NOT NULL, -- JSON
  closing    TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX incidents_delayed ON incidents (parent) WHERE kind = 'delayed-revocation' AND state = 'open';

CREATE TABLE invitations (
  token_hash BLOB PRIMARY KEY,
  operator   TEXT NOT NULL,
  roles      TEXT NOT NULL, -- JSON array
  inviter    TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE looks (
  seq         INTEGER PRIMARY KEY,
  book        TEXT NOT NULL, -- public: looks for strangers; house: all others
  host        TEXT NOT NULL,
  address     TEXT NOT NULL, -- ADDRESS:PORT
  starttls    TEXT NOT NULL,
  first_at    INTEGER NOT NULL,
  last_at     INTEGER NOT NULL,
  looks       INTEGER NOT NULL,
  verdict     TEXT NOT NULL,
  reason      TEXT NOT NULL,
  detail      TEXT NOT NULL,
  fingerprint BLOB NOT NULL, -- SHA-256 of the certificate served; empty when none was seen
  key_hash    BLOB NOT NULL,
  issued      INTEGER NOT NULL,
  not_after   INTEGER NOT NULL,
  findings    TEXT NOT NULL, -- JSON
  changed     TEXT NOT NULL  -- JSON: in words, against the row before
) STRICT;

CREATE INDEX looks_age ON looks (book, last_at);

CREATE INDEX looks_key ON looks (book, key_hash, last_at);

CREATE INDEX looks_place ON looks (book, host, address, starttls, seq);

CREATE TABLE notice_steps (
  incident  TEXT NOT NULL,
  step      TEXT NOT NULL,
  day       TEXT NOT NULL,
  what      TEXT NOT NULL,
  todo      TEXT NOT NULL,
  until     INTEGER NOT NULL,
  actor     TEXT NOT NULL,
  at        INTEGER NOT NULL,
  leaf_seq  INTEGER NOT NULL,
  PRIMARY KEY (incident, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE notices (
  issuer    TEXT NOT NULL,
  serial    BLOB NOT NULL,
  channel   TEXT NOT NULL,
  recipient TEXT NOT NULL,
  threshold INTEGER NOT NULL,
  at        INTEGER NOT NULL,
  PRIMARY KEY (issuer, serial, channel, recipient, threshold)
) STRICT, WITHOUT ROWID;

CREATE TABLE operators (
  name       TEXT PRIMARY KEY,
  public_key BLOB NOT NULL,
  roles      TEXT NOT NULL, -- JSON array
  added_at   INTEGER NOT NULL,
  removed_at INTEGER NOT NULL
, reviewed_at INTEGER NOT NULL DEFAULT 0) STRICT;

CREATE TABLE order_authorizations (
  order_id         TEXT NOT NULL REFERENCES orders (id),
  authorization_id TEXT NOT NULL REFERENCES authorizations (id),
  PRIMARY KEY (order_id, authorization_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX order_authorizations_back ON order_authorizations (authorization_id);

CREATE TABLE orders (
  seq              INTEGER PRIMARY KEY,
  id               TEXT NOT NULL UNIQUE,
  account_id       TEXT NOT NULL,
  state            TEXT NOT NULL,
  identifiers      TEXT NOT NULL, -- JSON array of identifiers
  authorizations   TEXT NOT NULL, -- JSON array of ids
  profile          TEXT NOT NULL,
  authority        TEXT NOT NULL,
  csr              BLOB NOT NULL,
  issuer           TEXT NOT NULL,
  serial           BLOB NOT NULL,
  replaces_issuer  TEXT NOT NULL,
  replaces_serial  BLOB NOT NULL,
  problem          TEXT NOT NULL, -- JSON, '' for none
  expires_at       INTEGER NOT NULL,
  created_at       INTEGER NOT NULL,
  processing_since INTEGER NOT NULL
) STRICT;

CREATE INDEX orders_account ON orders (account_id, seq);

CREATE INDEX orders_expiry ON orders (expires_at);

CREATE UNIQUE INDEX orders_replaces ON orders (replaces_issuer, replaces_serial)
  WHERE replaces_issuer <> '' AND state <> 'invalid';

CREATE INDEX orders_state ON orders (state, seq) WHERE state = 'pending' OR state = 'ready' OR state = 'processing';

CREATE TABLE partner_people (
  partner    TEXT NOT NULL REFERENCES partners (id),
  name       TEXT NOT NULL,
  token_hash BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  revoked_at INTEGER NOT NULL,
  PRIMARY KEY (partner, name)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX partner_people_token ON partner_people (token_hash) WHERE length(token_hash) > 0;

CREATE TABLE partner_use (
  partner TEXT NOT NULL,
  hour    INTEGER NOT NULL,
  used    INTEGER NOT NULL,
  PRIMARY KEY (partner, hour)
) STRICT, WITHOUT ROWID;

CREATE TABLE partners (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  title      TEXT NOT NULL,
  state      TEXT NOT NULL,
  scope      TEXT NOT NULL, -- JSON
  created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE precertificates (
  intent_seq INTEGER PRIMARY KEY REFERENCES certificates (intent_seq),
  der        BLOB NOT NULL
) STRICT;

CREATE TABLE prepared (
  authority   TEXT NOT NULL,
  kind        TEXT NOT NULL,
  not_before  INTEGER NOT NULL,
  digest      BLOB NOT NULL,
  not_after   INTEGER NOT NULL,
  der         BLOB NOT NULL,
  key_uri     TEXT NOT NULL,
  crl_number  INTEGER NOT NULL,
  imported_at INTEGER NOT NULL, change_id TEXT NOT NULL DEFAULT '', shard INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (authority, not_before, kind, digest)
) STRICT;

CREATE TABLE profile_versions (
  seq          INTEGER PRIMARY KEY,
  name         TEXT NOT NULL,
  version      INTEGER NOT NULL,
  request      TEXT NOT NULL,
  activated_at INTEGER NOT NULL,
  UNIQUE (name, version, request)
) STRICT;

CREATE TABLE pruned (
  issuer TEXT NOT NULL,
  serial BLOB NOT NULL,
  PRIMARY KEY (issuer, serial)
) STRICT, WITHOUT ROWID;

CREATE TABLE rate_limits (
  key TEXT PRIMARY KEY,
  tat INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX rate_limits_tat ON rate_limits (tat);

CREATE TABLE replies (
  key_hash    BLOB PRIMARY KEY,
  owner       TEXT NOT NULL,
  request     BLOB NOT NULL,
  holder      TEXT NOT NULL,
  status      INTEGER NOT NULL, -- 0 while under way
  body        BLOB NOT NULL,
  lease_until INTEGER NOT NULL,
  expires_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX replies_expiry ON replies (expires_at);

CREATE TABLE requests (
  seq        INTEGER PRIMARY KEY,
  id         TEXT NOT NULL UNIQUE,
  action     TEXT NOT NULL,
  payload    BLOB NOT NULL,
  digest     BLOB NOT NULL,
  needed     INTEGER NOT NULL,
  state      TEXT NOT NULL,
  actor      TEXT NOT NULL,
  reason     TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX requests_state ON requests (state, seq);

CREATE TABLE restorations (
  change_seq  INTEGER NOT NULL REFERENCES changes (seq),
  issuer      TEXT NOT NULL,
  serial      BLOB NOT NULL,
  reason      INTEGER NOT NULL,
  revoked_at  INTEGER NOT NULL,
  restored_at INTEGER NOT NULL,
  PRIMARY KEY (change_seq, issuer, serial)
) STRICT, WITHOUT ROWID;

CREATE TABLE second_approvals (
  order_id TEXT NOT NULL,
  actor    TEXT NOT NULL,
  at       INTEGER NOT NULL, signature BLOB NOT NULL DEFAULT x'',
  PRIMARY KEY (order_id, actor)
) STRICT, WITHOUT ROWID;

CREATE TABLE security_keys (
  id         BLOB PRIMARY KEY,
  operator   TEXT NOT NULL,
  public_key BLOB NOT NULL, -- DER SubjectPublicKeyInfo
  cose       BLOB NOT NULL,
  rp_id      TEXT NOT NULL,
  origin     TEXT NOT NULL,
  label      TEXT NOT NULL,
  aaguid     BLOB NOT NULL,
  sign_count INTEGER NOT NULL,
  added_at   INTEGER NOT NULL,
  removed_at INTEGER NOT NULL,
  used_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
  token_hash BLOB PRIMARY KEY,
  operator   TEXT NOT NULL,
  method     TEXT NOT NULL,
  subject    TEXT NOT NULL,
  roles      TEXT NOT NULL, -- JSON array
  began_at   INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  ended_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE signature_counters (
  key_hash  BLOB PRIMARY KEY,
  announced INTEGER NOT NULL,
  made      INTEGER NOT NULL,
  since     INTEGER NOT NULL
) STRICT;

CREATE TABLE signin_steps (
  id         BLOB PRIMARY KEY,
  kind       TEXT NOT NULL,
  body       BLOB NOT NULL,
  expires_at INTEGER NOT NULL
) STRICT;

CREATE INDEX signin_steps_expiry ON signin_steps (expires_at);

CREATE TABLE standbys (
  authority     TEXT NOT NULL,
  digest        BLOB NOT NULL,
  under         TEXT NOT NULL,
  certificate   BLOB NOT NULL,
  chain         TEXT NOT NULL,
  not_after     INTEGER NOT NULL,
  added_at      INTEGER NOT NULL,
  offered_until INTEGER NOT NULL,
  PRIMARY KEY (authority, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE stops (
  seq      INTEGER PRIMARY KEY,
  id       TEXT NOT NULL UNIQUE,
  kind     TEXT NOT NULL,
  value    TEXT NOT NULL,
  reason   TEXT NOT NULL,
  actor    TEXT NOT NULL,
  at       INTEGER NOT NULL,
  ended_at INTEGER NOT NULL,
  ended_by TEXT NOT NULL,
  ending   TEXT NOT NULL
) STRICT;

CREATE INDEX stops_ended ON stops (ended_at);

CREATE INDEX stops_in_force ON stops (seq) WHERE ended_at = 0;

CREATE TABLE tickets (
  seq             INTEGER PRIMARY KEY,
  id              TEXT NOT NULL UNIQUE,
  campaign        TEXT NOT NULL,
  replaces_issuer TEXT NOT NULL,
  replaces_serial BLOB NOT NULL,
  order_id        TEXT NOT NULL,
  name            TEXT NOT NULL,
  account_id      TEXT NOT NULL,
  code_hash       BLOB NOT NULL UNIQUE,
  actor           TEXT NOT NULL,
  created_at      INTEGER NOT NULL,
  expires_at      INTEGER NOT NULL,
  claimed_at      INTEGER NOT NULL,
  request         BLOB NOT NULL,
  redeemed_at     INTEGER NOT NULL,
  used_issuer     TEXT NOT NULL,
  used_serial     BLOB NOT NULL
) STRICT;

CREATE INDEX tickets_account ON tickets (account_id, seq);

CREATE UNIQUE INDEX tickets_item ON tickets (campaign, replaces_issuer, replaces_serial) WHERE campaign <> '';

CREATE TABLE validations (
  seq              INTEGER PRIMARY KEY,
  id               TEXT NOT NULL UNIQUE,
  authorization_id TEXT NOT NULL REFERENCES authorizations (id),
  account_id       TEXT NOT NULL,
  name_type        TEXT NOT NULL,
  name             TEXT NOT NULL,
  wildcard         INTEGER NOT NULL,
  method           TEXT NOT NULL,
  at               INTEGER NOT NULL,
  reuse_until      INTEGER NOT NULL,
  detail           TEXT NOT NULL
) STRICT;

CREATE INDEX validations_at ON validations (at);

CREATE INDEX validations_authorization ON validations (authorization_id);

CREATE INDEX validations_name ON validations (name, at);
