-- +goose Up
-- Certificates whose legal hold ended are told of one by one, and left out of the letters for many: few at any time.
CREATE INDEX campaign_jobs_after_hold ON campaign_jobs (campaign_seq, generation, first) WHERE kind = 'after-hold';
