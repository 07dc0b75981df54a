// Package day lives one day of a certificate authority in a minute: real compartments, a real store and real keys under
// a clock of its own, with a load of orders, renewals, revocations, a rotation and restarts.
//
// Purpose: what only shows over time. No answer is ever stale or older than one served before, no revocation is ever
// forgotten, no CRL chain has a gap, nothing grows that should not.
//
// Invariant: a relying party that knows nothing of the house judges it, through the edge's handler and with libraries
// that the house does not use, after every step. The same seed gives the same load. The judge itself is shown planted
// faults.
//
// Refuses: to skip, and to wait: time passes only when the load says so.
//
// BULKHEAD_TORTURE=1 makes it 20,000 certificates.
package day
