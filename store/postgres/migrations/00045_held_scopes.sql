-- +goose Up
-- What the signer holds a registration partner to, which a restart must not forget. The signer alone writes it.
CREATE TABLE held_scopes (
  partner  text COLLATE "C" NOT NULL PRIMARY KEY,
  scope    text NOT NULL,
  signed   text NOT NULL,
  at       bigint NOT NULL
);
