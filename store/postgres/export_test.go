package postgres

import "github.com/jackc/pgx/v5"

// Looks is the driver of shared looks, for tests.
type Looks = looks

// Lookers is how many connections they have.
const Lookers = lookers

// ErrLooksOnly is their refusal.
var ErrLooksOnly = errLooksOnly

// NewLooks makes them.
func NewLooks(cfg pgx.ConnConfig) *Looks { return newLooks(cfg) }

// Waiting is how many callers wait for a connection.
func Waiting(l *Looks) int64 { return l.waiting.Load() }

// Keyed are the settings of connections that keep plans.
func Keyed() map[string]string { return keyed }
