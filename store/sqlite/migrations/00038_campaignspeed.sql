-- +goose Up
-- What was issued since, across issuers: a campaign looks for its replacements there in every round.
CREATE INDEX certificates_outcome_any ON certificates (outcome_seq) WHERE outcome_seq > 0 AND kind = 'leaf';
-- The house's own estate is asked for before each chunk of notices, and is small.
CREATE INDEX campaign_items_own ON campaign_items (campaign_seq, state) WHERE own = 1;
-- Items that were told of and have a replacement already: few at any time.
CREATE INDEX campaign_items_early ON campaign_items (campaign_seq, ordinal) WHERE state = 'notified' AND replacement_issuer <> '';
-- Messages of an account, and those that are still on their way.
CREATE INDEX incident_notices_account ON incident_notices (account_id, incident, step);
CREATE INDEX incident_notices_open ON incident_notices (incident, step) WHERE state IN ('planned', 'sending');
