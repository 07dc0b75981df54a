-- +goose Up
-- What an authority has in use, by profile: counted without reading rows, and the profiles found by stepping over them.
CREATE INDEX certificates_product ON certificates (issuer, profile, not_after, kind) WHERE state = 'issued' AND kind IN ('leaf', 'infra');

-- Certificates of authorities are few among millions.
CREATE INDEX certificates_ca ON certificates (issuer, serial) WHERE kind = 'ca';
