-- What the migrations add up to. Written by: go test ./store/postgres -run TestSchema -update

CREATE TABLE accounts (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  state text NOT NULL,
  thumbprint text COLLATE "C" NOT NULL,
  jwk bytea NOT NULL,
  token_hash bytea NOT NULL,
  contacts text NOT NULL,
  terms_at bigint NOT NULL,
  operator boolean NOT NULL,
  created_at bigint NOT NULL,
  partner text COLLATE "C" NOT NULL,
  creator text COLLATE "C" NOT NULL,
  roll_due bigint NOT NULL,
  CONSTRAINT accounts_id_key UNIQUE (id),
  CONSTRAINT accounts_pkey PRIMARY KEY (seq)
);

CREATE TABLE alarm_deliveries (
  alarm bigint NOT NULL,
  receiver text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  attempts bigint NOT NULL,
  next_at bigint NOT NULL,
  at bigint NOT NULL,
  error text COLLATE "C" NOT NULL,
  CONSTRAINT alarm_deliveries_pkey PRIMARY KEY (alarm, receiver),
  CONSTRAINT alarm_deliveries_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'done'::text, 'failed'::text])))
);

CREATE TABLE alarms (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  detector text COLLATE "C" NOT NULL,
  key text NOT NULL,
  severity text NOT NULL,
  message text NOT NULL,
  runbook text NOT NULL,
  first_at bigint NOT NULL,
  last_at bigint NOT NULL,
  count bigint NOT NULL,
  acked_at bigint NOT NULL,
  acked_by text COLLATE "C" NOT NULL,
  ack_reason text COLLATE "C" NOT NULL,
  CONSTRAINT alarms_detector_key_key UNIQUE (detector, key),
  CONSTRAINT alarms_pkey PRIMARY KEY (seq)
);

CREATE TABLE approvals (
  request_id text COLLATE "C" NOT NULL,
  operator text COLLATE "C" NOT NULL,
  key_hash bytea NOT NULL,
  signature bytea NOT NULL,
  at bigint NOT NULL,
  CONSTRAINT approvals_pkey PRIMARY KEY (request_id, operator)
);

CREATE TABLE authorities (
  id text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  state text NOT NULL,
  parent text COLLATE "C" NOT NULL,
  subject bytea NOT NULL,
  spki bytea NOT NULL,
  certificate bytea NOT NULL,
  chain text NOT NULL,
  csr bytea NOT NULL,
  key_uri text COLLATE "C" NOT NULL,
  shards bigint NOT NULL,
  successor text COLLATE "C" NOT NULL,
  created_at bigint NOT NULL,
  CONSTRAINT authorities_pkey PRIMARY KEY (id)
);

CREATE TABLE authorizations (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  name_type text NOT NULL,
  name text COLLATE "C" NOT NULL,
  wildcard boolean NOT NULL,
  state text NOT NULL,
  challenges text NOT NULL,
  expires_at bigint NOT NULL,
  created_at bigint NOT NULL,
  CONSTRAINT authorizations_id_key UNIQUE (id),
  CONSTRAINT authorizations_pkey PRIMARY KEY (seq)
);

CREATE TABLE blocked_keys (
  key_hash bytea NOT NULL,
  blocked_at bigint NOT NULL,
  reason text NOT NULL,
  actor text NOT NULL,
  CONSTRAINT blocked_keys_pkey PRIMARY KEY (key_hash)
);

CREATE TABLE caa_checks (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  order_id text COLLATE "C" NOT NULL,
  name_type text NOT NULL,
  name text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  valid_until bigint NOT NULL,
  result text NOT NULL,
  detail text NOT NULL,
  CONSTRAINT caa_checks_pkey PRIMARY KEY (seq)
);

CREATE TABLE campaign_attempts (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  campaign_seq bigint NOT NULL,
  key_hash bytea NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  order_id text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  CONSTRAINT campaign_attempts_pkey PRIMARY KEY (seq)
);

CREATE TABLE campaign_items (
  campaign_seq bigint NOT NULL,
  intent_seq bigint NOT NULL,
  ordinal bigint NOT NULL,
  issuer text COLLATE "C" NOT NULL,
  serial bytea NOT NULL,
  wave bigint NOT NULL,
  state text COLLATE "C" NOT NULL,
  product text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  order_id text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  key_hash bytea NOT NULL,
  own bigint NOT NULL,
  critical bigint NOT NULL,
  notify_at bigint NOT NULL,
  window_start bigint NOT NULL,
  window_end bigint NOT NULL,
  revoke_at bigint NOT NULL,
  deadline bigint NOT NULL,
  not_after bigint NOT NULL,
  replacement_issuer text COLLATE "C" NOT NULL,
  replacement_serial bytea NOT NULL,
  vulnerable bigint NOT NULL,
  change_id text COLLATE "C" NOT NULL,
  detail text COLLATE "C" NOT NULL,
  moved_at bigint NOT NULL,
  path text COLLATE "C" NOT NULL,
  move_seq bigint NOT NULL,
  CONSTRAINT campaign_items_pkey PRIMARY KEY (campaign_seq, intent_seq)
);

CREATE TABLE campaign_jobs (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  campaign_seq bigint NOT NULL,
  generation bigint NOT NULL,
  kind text COLLATE "C" NOT NULL,
  first bigint NOT NULL,
  last bigint NOT NULL,
  due_at bigint NOT NULL,
  done bigint NOT NULL,
  holder text COLLATE "C" NOT NULL,
  lease_until bigint NOT NULL,
  change_id text COLLATE "C" NOT NULL,
  tries bigint NOT NULL,
  problem text COLLATE "C" NOT NULL,
  CONSTRAINT campaign_jobs_pkey PRIMARY KEY (seq)
);

CREATE TABLE campaign_keys (
  key_hash bytea NOT NULL,
  campaign_seq bigint NOT NULL,
  CONSTRAINT campaign_keys_pkey PRIMARY KEY (key_hash, campaign_seq)
);

CREATE TABLE campaign_moves (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  campaign_seq bigint NOT NULL,
  state text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  leaf_seq bigint NOT NULL,
  detail text COLLATE "C" NOT NULL,
  change_id text COLLATE "C" NOT NULL,
  CONSTRAINT campaign_moves_pkey PRIMARY KEY (seq)
);

CREATE TABLE campaign_steps (
  campaign_seq bigint NOT NULL,
  intent_seq bigint NOT NULL,
  number bigint NOT NULL,
  state text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  leaf_seq bigint NOT NULL,
  detail text COLLATE "C" NOT NULL,
  CONSTRAINT campaign_steps_pkey PRIMARY KEY (campaign_seq, intent_seq, number)
);

CREATE TABLE campaigns (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  incident text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  generation bigint NOT NULL,
  plan_hash bytea NOT NULL,
  parent_hash bytea NOT NULL,
  plan bytea NOT NULL,
  needs text COLLATE "C" NOT NULL,
  tickets bigint NOT NULL,
  reason bigint NOT NULL,
  items bigint NOT NULL,
  deadline bigint NOT NULL,
  force_at bigint NOT NULL,
  approval text COLLATE "C" NOT NULL,
  actor text COLLATE "C" NOT NULL,
  created_at bigint NOT NULL,
  started_at bigint NOT NULL,
  closed_at bigint NOT NULL,
  cursor bigint NOT NULL,
  CONSTRAINT campaigns_id_key UNIQUE (id),
  CONSTRAINT campaigns_pkey PRIMARY KEY (seq)
);

CREATE TABLE ceremonies (
  digest bytea NOT NULL,
  previous bytea NOT NULL,
  root bytea NOT NULL,
  title text COLLATE "C" NOT NULL,
  rehearsal bigint NOT NULL,
  change_id text COLLATE "C" NOT NULL,
  began_at bigint NOT NULL,
  finished_at bigint NOT NULL,
  imported_at bigint NOT NULL,
  actor text COLLATE "C" NOT NULL,
  signed bytea NOT NULL,
  CONSTRAINT ceremonies_pkey PRIMARY KEY (digest)
);

CREATE TABLE certificate_ders (
  intent_seq bigint NOT NULL,
  der bytea NOT NULL,
  CONSTRAINT certificate_ders_pkey PRIMARY KEY (intent_seq)
);

CREATE TABLE certificate_names (
  reversed text COLLATE "C" NOT NULL,
  intent_seq bigint NOT NULL,
  CONSTRAINT certificate_names_pkey PRIMARY KEY (reversed, intent_seq)
);

CREATE TABLE certificates (
  intent_seq bigint NOT NULL,
  issuer text COLLATE "C" NOT NULL,
  serial bytea NOT NULL,
  kind text COLLATE "C" NOT NULL,
  state text NOT NULL,
  profile text NOT NULL,
  names text NOT NULL,
  subject text NOT NULL,
  key_hash bytea NOT NULL,
  intent_digest bytea NOT NULL,
  fingerprint bytea NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  order_id text COLLATE "C" NOT NULL,
  not_before bigint NOT NULL,
  not_after bigint NOT NULL,
  shard bigint NOT NULL,
  revoked_at bigint NOT NULL,
  reason bigint NOT NULL,
  reserved_at bigint NOT NULL,
  replaces_issuer text NOT NULL,
  replaces_serial bytea NOT NULL,
  replaced_by_issuer text NOT NULL,
  replaced_by_serial bytea NOT NULL,
  outcome_seq bigint NOT NULL,
  CONSTRAINT certificates_pkey PRIMARY KEY (intent_seq),
  CONSTRAINT certificates_serial_check CHECK ((length(serial) = 20)),
  CONSTRAINT certificates_state_check CHECK ((state = ANY (ARRAY['reserved'::text, 'issued'::text, 'revoked'::text, 'abandoned'::text])))
);

CREATE TABLE change_evidence (
  change_id text COLLATE "C" NOT NULL,
  seq bigint NOT NULL,
  CONSTRAINT change_evidence_pkey PRIMARY KEY (change_id, seq)
);

CREATE TABLE change_items (
  change_seq bigint NOT NULL,
  issuer text COLLATE "C" NOT NULL,
  serial bytea NOT NULL,
  reason bigint NOT NULL,
  revoked_at bigint NOT NULL,
  was_reason bigint NOT NULL,
  was_revoked_at bigint NOT NULL,
  CONSTRAINT change_items_pkey PRIMARY KEY (change_seq, issuer, serial),
  CONSTRAINT change_items_revoked_at_check CHECK ((revoked_at > 0))
);

CREATE TABLE changes (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  state text NOT NULL,
  actor text NOT NULL,
  why text NOT NULL,
  items bigint NOT NULL,
  preview_hash bytea NOT NULL,
  preview bytea NOT NULL,
  epoch bigint NOT NULL,
  created_at bigint NOT NULL,
  activated_at bigint NOT NULL,
  undoes text NOT NULL,
  incident text NOT NULL,
  rule text NOT NULL,
  was_kept bigint NOT NULL,
  problem text NOT NULL,
  dies_at bigint NOT NULL,
  held_until bigint NOT NULL,
  CONSTRAINT changes_id_key UNIQUE (id),
  CONSTRAINT changes_pkey PRIMARY KEY (seq)
);

CREATE TABLE check_results (
  id_hash bytea NOT NULL,
  expires_at bigint NOT NULL,
  body bytea NOT NULL,
  CONSTRAINT check_results_pkey PRIMARY KEY (id_hash)
);

CREATE TABLE compromises (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  key_hash bytea NOT NULL,
  actor text COLLATE "C" NOT NULL,
  reason text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  revoked bigint NOT NULL,
  changes text COLLATE "C" NOT NULL,
  settled_at bigint NOT NULL,
  CONSTRAINT compromises_key_hash_key UNIQUE (key_hash),
  CONSTRAINT compromises_pkey PRIMARY KEY (seq)
);

CREATE TABLE crl_numbers (
  authority text COLLATE "C" NOT NULL,
  shard bigint NOT NULL,
  number bigint NOT NULL,
  CONSTRAINT crl_numbers_pkey PRIMARY KEY (authority, shard)
);

CREATE TABLE crl_seen (
  issuer text NOT NULL,
  shard bigint NOT NULL,
  number bigint NOT NULL,
  at bigint NOT NULL,
  CONSTRAINT crl_seen_pkey PRIMARY KEY (issuer, shard)
);

CREATE TABLE crls (
  authority text COLLATE "C" NOT NULL,
  shard bigint NOT NULL,
  number bigint NOT NULL,
  this_update bigint NOT NULL,
  next_update bigint NOT NULL,
  object text NOT NULL,
  digest bytea NOT NULL,
  entries bigint NOT NULL,
  CONSTRAINT crls_pkey PRIMARY KEY (authority, shard)
);

CREATE TABLE ct_monitors (
  log_id bytea NOT NULL,
  log text NOT NULL,
  first bigint NOT NULL,
  entries bigint NOT NULL,
  size bigint NOT NULL,
  root bytea NOT NULL,
  at bigint NOT NULL,
  ours bigint NOT NULL,
  unknown bigint NOT NULL,
  CONSTRAINT ct_monitors_pkey PRIMARY KEY (log_id)
);

CREATE TABLE delegates (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  authority text COLLATE "C" NOT NULL,
  key_uri text COLLATE "C" NOT NULL,
  certificate bytea NOT NULL,
  not_before bigint NOT NULL,
  not_after bigint NOT NULL,
  CONSTRAINT delegates_authority_key_uri_key UNIQUE (authority, key_uri),
  CONSTRAINT delegates_pkey PRIMARY KEY (seq)
);

CREATE TABLE estate_looks (
  campaign text NOT NULL,
  at bigint NOT NULL,
  body bytea NOT NULL,
  CONSTRAINT estate_looks_pkey PRIMARY KEY (campaign)
);

CREATE TABLE evidence (
  seq bigint NOT NULL,
  leaf bytea NOT NULL,
  chain bytea NOT NULL,
  CONSTRAINT evidence_pkey PRIMARY KEY (seq)
);

CREATE TABLE evidence_head (
  id bigint NOT NULL,
  seq bigint NOT NULL,
  chain bytea NOT NULL,
  CONSTRAINT evidence_head_pkey PRIMARY KEY (id),
  CONSTRAINT evidence_head_id_check CHECK ((id = 1))
);

CREATE TABLE external_keys (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  note text COLLATE "C" NOT NULL,
  actor text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  created_at bigint NOT NULL,
  expires_at bigint NOT NULL,
  used_at bigint NOT NULL,
  revoked_at bigint NOT NULL,
  partner text COLLATE "C" NOT NULL,
  CONSTRAINT external_keys_id_key UNIQUE (id),
  CONSTRAINT external_keys_pkey PRIMARY KEY (seq)
);

CREATE TABLE head_turn (
  id bigint NOT NULL,
  CONSTRAINT head_turn_pkey PRIMARY KEY (id)
);

CREATE TABLE heads (
  sequence bigint NOT NULL,
  body bytea NOT NULL,
  at bigint NOT NULL,
  CONSTRAINT heads_pkey PRIMARY KEY (sequence)
);

CREATE TABLE held_scopes (
  partner text COLLATE "C" NOT NULL,
  scope text NOT NULL,
  signed text NOT NULL,
  at bigint NOT NULL,
  CONSTRAINT held_scopes_pkey PRIMARY KEY (partner)
);

CREATE TABLE incident_counts (
  incident_seq bigint NOT NULL,
  number bigint NOT NULL,
  at bigint NOT NULL,
  items bigint NOT NULL,
  live bigint NOT NULL,
  digest bytea NOT NULL,
  why text COLLATE "C" NOT NULL,
  actor text COLLATE "C" NOT NULL,
  leaf_seq bigint NOT NULL,
  CONSTRAINT incident_counts_pkey PRIMARY KEY (incident_seq, number)
);

CREATE TABLE incident_fields (
  incident text COLLATE "C" NOT NULL,
  field text COLLATE "C" NOT NULL,
  number bigint NOT NULL,
  text text COLLATE "C" NOT NULL,
  actor text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  leaf_seq bigint NOT NULL,
  CONSTRAINT incident_fields_pkey PRIMARY KEY (incident, field, number)
);

CREATE TABLE incident_items (
  incident_seq bigint NOT NULL,
  intent_seq bigint NOT NULL,
  issuer text COLLATE "C" NOT NULL,
  serial bytea NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  dropped bigint NOT NULL,
  held_why text COLLATE "C" NOT NULL,
  held_by text COLLATE "C" NOT NULL,
  held_at bigint NOT NULL,
  CONSTRAINT incident_items_pkey PRIMARY KEY (incident_seq, intent_seq)
);

CREATE TABLE incident_notices (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  incident text COLLATE "C" NOT NULL,
  step text COLLATE "C" NOT NULL,
  channel text COLLATE "C" NOT NULL,
  recipient text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  partner text COLLATE "C" NOT NULL,
  language text COLLATE "C" NOT NULL,
  items bigint NOT NULL,
  message_id text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  tries bigint NOT NULL,
  moved_at bigint NOT NULL,
  problem text COLLATE "C" NOT NULL,
  CONSTRAINT incident_notices_incident_step_channel_recipient_account_id_key UNIQUE (incident, step, channel, recipient, account_id, partner),
  CONSTRAINT incident_notices_pkey PRIMARY KEY (seq)
);

CREATE TABLE incidents (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  parent text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  title text COLLATE "C" NOT NULL,
  source text COLLATE "C" NOT NULL,
  source_ref text COLLATE "C" NOT NULL,
  playbook text COLLATE "C" NOT NULL,
  cause text COLLATE "C" NOT NULL,
  reason bigint NOT NULL,
  aware_at bigint NOT NULL,
  opened_at bigint NOT NULL,
  closed_at bigint NOT NULL,
  actor text COLLATE "C" NOT NULL,
  duties text COLLATE "C" NOT NULL,
  scope text COLLATE "C" NOT NULL,
  deadlines text COLLATE "C" NOT NULL,
  closing text COLLATE "C" NOT NULL,
  CONSTRAINT incidents_id_key UNIQUE (id),
  CONSTRAINT incidents_pkey PRIMARY KEY (seq)
);

CREATE TABLE invitations (
  token_hash bytea NOT NULL,
  operator text NOT NULL,
  roles text NOT NULL,
  inviter text NOT NULL,
  created_at bigint NOT NULL,
  expires_at bigint NOT NULL,
  used_at bigint NOT NULL,
  CONSTRAINT invitations_pkey PRIMARY KEY (token_hash)
);

CREATE TABLE looks (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  book text COLLATE "C" NOT NULL,
  host text COLLATE "C" NOT NULL,
  address text COLLATE "C" NOT NULL,
  starttls text COLLATE "C" NOT NULL,
  first_at bigint NOT NULL,
  last_at bigint NOT NULL,
  looks bigint NOT NULL,
  verdict text NOT NULL,
  reason text NOT NULL,
  detail text NOT NULL,
  fingerprint bytea NOT NULL,
  key_hash bytea NOT NULL,
  issued bigint NOT NULL,
  not_after bigint NOT NULL,
  findings text NOT NULL,
  changed text NOT NULL,
  CONSTRAINT looks_pkey PRIMARY KEY (seq)
);

CREATE TABLE notice_steps (
  incident text COLLATE "C" NOT NULL,
  step text COLLATE "C" NOT NULL,
  day text COLLATE "C" NOT NULL,
  what text COLLATE "C" NOT NULL,
  todo text COLLATE "C" NOT NULL,
  until bigint NOT NULL,
  actor text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  leaf_seq bigint NOT NULL,
  CONSTRAINT notice_steps_pkey PRIMARY KEY (incident, step)
);

CREATE TABLE notices (
  issuer text COLLATE "C" NOT NULL,
  serial bytea NOT NULL,
  channel text COLLATE "C" NOT NULL,
  recipient text COLLATE "C" NOT NULL,
  threshold bigint NOT NULL,
  at bigint NOT NULL,
  CONSTRAINT notices_pkey PRIMARY KEY (issuer, serial, channel, recipient, threshold)
);

CREATE TABLE operators (
  name text COLLATE "C" NOT NULL,
  public_key bytea NOT NULL,
  roles text NOT NULL,
  added_at bigint NOT NULL,
  removed_at bigint NOT NULL,
  reviewed_at bigint NOT NULL,
  CONSTRAINT operators_pkey PRIMARY KEY (name)
);

CREATE TABLE order_authorizations (
  order_id text COLLATE "C" NOT NULL,
  authorization_id text COLLATE "C" NOT NULL,
  CONSTRAINT order_authorizations_pkey PRIMARY KEY (order_id, authorization_id)
);

CREATE TABLE orders (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  state text NOT NULL,
  identifiers text NOT NULL,
  authorizations text NOT NULL,
  profile text NOT NULL,
  authority text COLLATE "C" NOT NULL,
  csr bytea NOT NULL,
  issuer text COLLATE "C" NOT NULL,
  serial bytea NOT NULL,
  replaces_issuer text NOT NULL,
  replaces_serial bytea NOT NULL,
  problem text NOT NULL,
  expires_at bigint NOT NULL,
  created_at bigint NOT NULL,
  processing_since bigint NOT NULL,
  CONSTRAINT orders_id_key UNIQUE (id),
  CONSTRAINT orders_pkey PRIMARY KEY (seq)
);

CREATE TABLE partner_people (
  partner text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  token_hash bytea NOT NULL,
  created_at bigint NOT NULL,
  revoked_at bigint NOT NULL,
  CONSTRAINT partner_people_pkey PRIMARY KEY (partner, name)
);

CREATE TABLE partner_use (
  partner text COLLATE "C" NOT NULL,
  hour bigint NOT NULL,
  used bigint NOT NULL,
  CONSTRAINT partner_use_pkey PRIMARY KEY (partner, hour)
);

CREATE TABLE partners (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  title text COLLATE "C" NOT NULL,
  state text COLLATE "C" NOT NULL,
  scope text COLLATE "C" NOT NULL,
  created_at bigint NOT NULL,
  CONSTRAINT partners_id_key UNIQUE (id),
  CONSTRAINT partners_pkey PRIMARY KEY (seq)
);

CREATE TABLE precertificates (
  intent_seq bigint NOT NULL,
  der bytea NOT NULL,
  CONSTRAINT precertificates_pkey PRIMARY KEY (intent_seq)
);

CREATE TABLE prepared (
  authority text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  not_before bigint NOT NULL,
  digest bytea NOT NULL,
  not_after bigint NOT NULL,
  der bytea NOT NULL,
  key_uri text COLLATE "C" NOT NULL,
  crl_number bigint NOT NULL,
  imported_at bigint NOT NULL,
  change_id text COLLATE "C" NOT NULL,
  shard bigint NOT NULL,
  CONSTRAINT prepared_pkey PRIMARY KEY (authority, not_before, kind, digest)
);

CREATE TABLE profile_versions (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  name text COLLATE "C" NOT NULL,
  version bigint NOT NULL,
  request text COLLATE "C" NOT NULL,
  activated_at bigint NOT NULL,
  CONSTRAINT profile_versions_name_version_request_key UNIQUE (name, version, request),
  CONSTRAINT profile_versions_pkey PRIMARY KEY (seq)
);

CREATE TABLE pruned (
  issuer text COLLATE "C" NOT NULL,
  serial bytea NOT NULL,
  CONSTRAINT pruned_pkey PRIMARY KEY (issuer, serial)
);

CREATE TABLE rate_limits (
  key text COLLATE "C" NOT NULL,
  tat bigint NOT NULL,
  CONSTRAINT rate_limits_pkey PRIMARY KEY (key)
);

CREATE TABLE replies (
  key_hash bytea NOT NULL,
  owner text COLLATE "C" NOT NULL,
  request bytea NOT NULL,
  holder text COLLATE "C" NOT NULL,
  status bigint NOT NULL,
  body bytea NOT NULL,
  lease_until bigint NOT NULL,
  expires_at bigint NOT NULL,
  CONSTRAINT replies_pkey PRIMARY KEY (key_hash)
);

CREATE TABLE requests (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  action text NOT NULL,
  payload bytea NOT NULL,
  digest bytea NOT NULL,
  needed bigint NOT NULL,
  state text NOT NULL,
  actor text NOT NULL,
  reason text NOT NULL,
  created_at bigint NOT NULL,
  expires_at bigint NOT NULL,
  CONSTRAINT requests_id_key UNIQUE (id),
  CONSTRAINT requests_pkey PRIMARY KEY (seq)
);

CREATE TABLE restorations (
  change_seq bigint NOT NULL,
  issuer text COLLATE "C" NOT NULL,
  serial bytea NOT NULL,
  reason bigint NOT NULL,
  revoked_at bigint NOT NULL,
  restored_at bigint NOT NULL,
  CONSTRAINT restorations_pkey PRIMARY KEY (change_seq, issuer, serial)
);

CREATE TABLE second_approvals (
  order_id text COLLATE "C" NOT NULL,
  actor text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  signature bytea NOT NULL,
  CONSTRAINT second_approvals_pkey PRIMARY KEY (order_id, actor)
);

CREATE TABLE security_keys (
  id bytea NOT NULL,
  operator text NOT NULL,
  public_key bytea NOT NULL,
  cose bytea NOT NULL,
  rp_id text NOT NULL,
  origin text NOT NULL,
  label text NOT NULL,
  aaguid bytea NOT NULL,
  sign_count bigint NOT NULL,
  added_at bigint NOT NULL,
  removed_at bigint NOT NULL,
  used_at bigint NOT NULL,
  CONSTRAINT security_keys_pkey PRIMARY KEY (id)
);

CREATE TABLE sessions (
  token_hash bytea NOT NULL,
  operator text NOT NULL,
  method text NOT NULL,
  subject text NOT NULL,
  roles text NOT NULL,
  began_at bigint NOT NULL,
  expires_at bigint NOT NULL,
  ended_at bigint NOT NULL,
  CONSTRAINT sessions_pkey PRIMARY KEY (token_hash)
);

CREATE TABLE signature_counters (
  key_hash bytea NOT NULL,
  announced bigint NOT NULL,
  made bigint NOT NULL,
  since bigint NOT NULL,
  CONSTRAINT signature_counters_pkey PRIMARY KEY (key_hash)
);

CREATE TABLE signin_steps (
  id bytea NOT NULL,
  kind text NOT NULL,
  body bytea NOT NULL,
  expires_at bigint NOT NULL,
  CONSTRAINT signin_steps_pkey PRIMARY KEY (id)
);

CREATE TABLE standbys (
  authority text COLLATE "C" NOT NULL,
  digest bytea NOT NULL,
  under text COLLATE "C" NOT NULL,
  certificate bytea NOT NULL,
  chain text NOT NULL,
  not_after bigint NOT NULL,
  added_at bigint NOT NULL,
  offered_until bigint NOT NULL,
  CONSTRAINT standbys_pkey PRIMARY KEY (authority, digest)
);

CREATE TABLE stops (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  kind text COLLATE "C" NOT NULL,
  value text COLLATE "C" NOT NULL,
  reason text COLLATE "C" NOT NULL,
  actor text COLLATE "C" NOT NULL,
  at bigint NOT NULL,
  ended_at bigint NOT NULL,
  ended_by text COLLATE "C" NOT NULL,
  ending text COLLATE "C" NOT NULL,
  CONSTRAINT stops_id_key UNIQUE (id),
  CONSTRAINT stops_pkey PRIMARY KEY (seq)
);

CREATE TABLE tickets (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  campaign text COLLATE "C" NOT NULL,
  replaces_issuer text COLLATE "C" NOT NULL,
  replaces_serial bytea NOT NULL,
  order_id text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  code_hash bytea NOT NULL,
  actor text COLLATE "C" NOT NULL,
  created_at bigint NOT NULL,
  expires_at bigint NOT NULL,
  claimed_at bigint NOT NULL,
  request bytea NOT NULL,
  redeemed_at bigint NOT NULL,
  used_issuer text COLLATE "C" NOT NULL,
  used_serial bytea NOT NULL,
  CONSTRAINT tickets_code_hash_key UNIQUE (code_hash),
  CONSTRAINT tickets_id_key UNIQUE (id),
  CONSTRAINT tickets_pkey PRIMARY KEY (seq)
);

CREATE TABLE validations (
  seq bigint GENERATED ALWAYS AS IDENTITY NOT NULL,
  id text COLLATE "C" NOT NULL,
  authorization_id text COLLATE "C" NOT NULL,
  account_id text COLLATE "C" NOT NULL,
  name_type text NOT NULL,
  name text COLLATE "C" NOT NULL,
  wildcard boolean NOT NULL,
  method text NOT NULL,
  at bigint NOT NULL,
  reuse_until bigint NOT NULL,
  detail text NOT NULL,
  CONSTRAINT validations_id_key UNIQUE (id),
  CONSTRAINT validations_pkey PRIMARY KEY (seq)
);

ALTER TABLE alarm_deliveries ADD CONSTRAINT alarm_deliveries_alarm_fkey FOREIGN KEY (alarm) REFERENCES alarms(seq);

ALTER TABLE approvals ADD CONSTRAINT approvals_request_id_fkey FOREIGN KEY (request_id) REFERENCES requests(id);

ALTER TABLE campaign_attempts ADD CONSTRAINT campaign_attempts_campaign_seq_fkey FOREIGN KEY (campaign_seq) REFERENCES campaigns(seq);

ALTER TABLE campaign_items ADD CONSTRAINT campaign_items_campaign_seq_fkey FOREIGN KEY (campaign_seq) REFERENCES campaigns(seq);

ALTER TABLE campaign_jobs ADD CONSTRAINT campaign_jobs_campaign_seq_fkey FOREIGN KEY (campaign_seq) REFERENCES campaigns(seq);

ALTER TABLE campaign_keys ADD CONSTRAINT campaign_keys_campaign_seq_fkey FOREIGN KEY (campaign_seq) REFERENCES campaigns(seq);

ALTER TABLE campaign_moves ADD CONSTRAINT campaign_moves_campaign_seq_fkey FOREIGN KEY (campaign_seq) REFERENCES campaigns(seq);

ALTER TABLE certificate_ders ADD CONSTRAINT certificate_ders_intent_seq_fkey FOREIGN KEY (intent_seq) REFERENCES certificates(intent_seq);

ALTER TABLE certificate_names ADD CONSTRAINT certificate_names_intent_seq_fkey FOREIGN KEY (intent_seq) REFERENCES certificates(intent_seq);

ALTER TABLE certificates ADD CONSTRAINT certificates_intent_seq_fkey FOREIGN KEY (intent_seq) REFERENCES evidence(seq);

ALTER TABLE change_evidence ADD CONSTRAINT change_evidence_seq_fkey FOREIGN KEY (seq) REFERENCES evidence(seq);

ALTER TABLE change_items ADD CONSTRAINT change_items_change_seq_fkey FOREIGN KEY (change_seq) REFERENCES changes(seq);

ALTER TABLE incident_counts ADD CONSTRAINT incident_counts_incident_seq_fkey FOREIGN KEY (incident_seq) REFERENCES incidents(seq);

ALTER TABLE incident_items ADD CONSTRAINT incident_items_incident_seq_fkey FOREIGN KEY (incident_seq) REFERENCES incidents(seq);

ALTER TABLE order_authorizations ADD CONSTRAINT order_authorizations_authorization_id_fkey FOREIGN KEY (authorization_id) REFERENCES authorizations(id);

ALTER TABLE order_authorizations ADD CONSTRAINT order_authorizations_order_id_fkey FOREIGN KEY (order_id) REFERENCES orders(id);

ALTER TABLE partner_people ADD CONSTRAINT partner_people_partner_fkey FOREIGN KEY (partner) REFERENCES partners(id);

ALTER TABLE precertificates ADD CONSTRAINT precertificates_intent_seq_fkey FOREIGN KEY (intent_seq) REFERENCES certificates(intent_seq);

ALTER TABLE restorations ADD CONSTRAINT restorations_change_seq_fkey FOREIGN KEY (change_seq) REFERENCES changes(seq);

ALTER TABLE validations ADD CONSTRAINT validations_authorization_id_fkey FOREIGN KEY (authorization_id) REFERENCES authorizations(id);

CREATE INDEX accounts_partner ON public.accounts USING btree (partner, seq) WHERE (partner <> ''::text);

CREATE UNIQUE INDEX accounts_thumbprint ON public.accounts USING btree (thumbprint) WHERE (thumbprint <> ''::text);

CREATE UNIQUE INDEX accounts_token ON public.accounts USING btree (token_hash) WHERE (length(token_hash) > 0);

CREATE INDEX alarms_last ON public.alarms USING btree (last_at, seq);

CREATE INDEX authorizations_claim ON public.authorizations USING btree (account_id, name);

CREATE INDEX authorizations_over ON public.authorizations USING btree (expires_at) WHERE (state = ANY (ARRAY['pending'::text, 'invalid'::text, 'expired'::text]));

CREATE INDEX caa_checks_order ON public.caa_checks USING btree (order_id);

CREATE INDEX campaign_attempts_campaign ON public.campaign_attempts USING btree (campaign_seq);

CREATE INDEX campaign_items_account ON public.campaign_items USING btree (account_id, name);

CREATE INDEX campaign_items_early ON public.campaign_items USING btree (campaign_seq, ordinal) WHERE ((state = 'notified'::text) AND (replacement_issuer <> ''::text));

CREATE INDEX campaign_items_going ON public.campaign_items USING btree (campaign_seq, state, ordinal) WHERE ((state <> 'planned'::text) AND (state <> 'old-revoked'::text) AND (state <> 'expired'::text));

CREATE UNIQUE INDEX campaign_items_ordinal ON public.campaign_items USING btree (campaign_seq, ordinal);

CREATE INDEX campaign_items_own ON public.campaign_items USING btree (campaign_seq, state) WHERE (own = 1);

CREATE INDEX campaign_jobs_after_hold ON public.campaign_jobs USING btree (campaign_seq, generation, first) WHERE (kind = 'after-hold'::text);

CREATE INDEX campaign_jobs_due ON public.campaign_jobs USING btree (campaign_seq, generation, due_at) WHERE (done = 0);

CREATE UNIQUE INDEX campaigns_incident ON public.campaigns USING btree (incident) WHERE (state <> 'closed'::text);

CREATE INDEX certificates_account ON public.certificates USING btree (account_id) WHERE (account_id <> ''::text);

CREATE INDEX certificates_ca ON public.certificates USING btree (issuer, serial) WHERE (kind = 'ca'::text);

CREATE INDEX certificates_expiry ON public.certificates USING btree (not_after);

CREATE INDEX certificates_issued ON public.certificates USING btree (reserved_at);

CREATE INDEX certificates_issuer ON public.certificates USING btree (issuer, intent_seq);

CREATE INDEX certificates_key ON public.certificates USING btree (key_hash);

CREATE INDEX certificates_open ON public.certificates USING btree (reserved_at) WHERE (state = 'reserved'::text);

CREATE INDEX certificates_order ON public.certificates USING btree (order_id) WHERE (order_id <> ''::text);

CREATE INDEX certificates_outcome ON public.certificates USING btree (issuer, outcome_seq) WHERE (outcome_seq > 0);

CREATE INDEX certificates_outcome_any ON public.certificates USING btree (outcome_seq) WHERE ((outcome_seq > 0) AND (kind = 'leaf'::text));

CREATE INDEX certificates_product ON public.certificates USING btree (issuer, profile, not_after, kind) WHERE ((state = 'issued'::text) AND (kind = ANY (ARRAY['leaf'::text, 'infra'::text])));

CREATE UNIQUE INDEX certificates_ref ON public.certificates USING btree (issuer, serial);

CREATE INDEX certificates_revoked ON public.certificates USING btree (issuer, shard, serial) WHERE (state = 'revoked'::text);

CREATE INDEX change_items_certificate ON public.change_items USING btree (issuer, serial);

CREATE INDEX changes_epoch ON public.changes USING btree (epoch) WHERE (epoch > 0);

CREATE INDEX changes_state ON public.changes USING btree (state, seq);

CREATE INDEX check_results_expiry ON public.check_results USING btree (expires_at);

CREATE INDEX compromises_open ON public.compromises USING btree (seq) WHERE (settled_at = 0);

CREATE INDEX incident_items_account ON public.incident_items USING btree (account_id, incident_seq, intent_seq) WHERE (account_id <> ''::text);

CREATE INDEX incident_items_held ON public.incident_items USING btree (incident_seq, intent_seq) WHERE (held_at > 0);

CREATE INDEX incident_notices_account ON public.incident_notices USING btree (account_id, incident, step);

CREATE INDEX incident_notices_bad ON public.incident_notices USING btree (seq) WHERE (state = ANY (ARRAY['bounced'::text, 'no-contact'::text]));

CREATE INDEX incident_notices_message ON public.incident_notices USING btree (message_id);

CREATE INDEX incident_notices_open ON public.incident_notices USING btree (incident, step) WHERE (state = ANY (ARRAY['planned'::text, 'sending'::text]));

CREATE INDEX incident_notices_state ON public.incident_notices USING btree (incident, step, state, seq);

CREATE UNIQUE INDEX incidents_delayed ON public.incidents USING btree (parent) WHERE ((kind = 'delayed-revocation'::text) AND (state = 'open'::text));

CREATE INDEX looks_age ON public.looks USING btree (book, last_at);

CREATE INDEX looks_key ON public.looks USING btree (book, key_hash, last_at);

CREATE INDEX looks_place ON public.looks USING btree (book, host, address, starttls, seq);

CREATE INDEX order_authorizations_back ON public.order_authorizations USING btree (authorization_id);

CREATE INDEX orders_account ON public.orders USING btree (account_id, seq);

CREATE INDEX orders_expiry ON public.orders USING btree (expires_at);

CREATE UNIQUE INDEX orders_replaces ON public.orders USING btree (replaces_issuer, replaces_serial) WHERE ((replaces_issuer <> ''::text) AND (state <> 'invalid'::text));

CREATE INDEX orders_state ON public.orders USING btree (state, seq) WHERE (state = ANY (ARRAY['pending'::text, 'ready'::text, 'processing'::text]));

CREATE UNIQUE INDEX partner_people_token ON public.partner_people USING btree (token_hash) WHERE (length(token_hash) > 0);

CREATE INDEX rate_limits_tat ON public.rate_limits USING btree (tat);

CREATE INDEX replies_expiry ON public.replies USING btree (expires_at);

CREATE INDEX requests_state ON public.requests USING btree (state, seq);

CREATE INDEX sessions_expiry ON public.sessions USING btree (expires_at);

CREATE INDEX signin_steps_expiry ON public.signin_steps USING btree (expires_at);

CREATE INDEX stops_ended ON public.stops USING btree (ended_at);

CREATE INDEX stops_in_force ON public.stops USING btree (seq) WHERE (ended_at = 0);

CREATE INDEX tickets_account ON public.tickets USING btree (account_id, seq);

CREATE UNIQUE INDEX tickets_item ON public.tickets USING btree (campaign, replaces_issuer, replaces_serial) WHERE (campaign <> ''::text);

CREATE INDEX validations_at ON public.validations USING btree (at);

CREATE INDEX validations_authorization ON public.validations USING btree (authorization_id);

CREATE INDEX validations_name ON public.validations USING btree (name, at);
