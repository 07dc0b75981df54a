// Package store is the place of the durable record; the code is in its children. sqlite and postgres implement every
// store port of the compartments over one body of SQL (internal/rel); storetest is the suite that both must pass.
//
// Invariant: evidence commits with what it speaks of. Refuses: business rules, and database handles for anyone else.
package store
