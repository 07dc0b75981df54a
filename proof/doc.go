// Package proof holds everything that this house keeps about its signatures against everything else that it keeps about
// them, and says what was found: the six negatives that DigiNotar's customers asked for in 2011 and could not get.
//
// Purpose: for each key of an authority it compares the leaves of the evidence log, the counter that moved in the same
// transactions, the table of certificates, what is published, what strangers asked for, and certificates that somebody
// brings from outside. Each answer carries its numbers, where in the log they come from, and what it does not cover.
//
// Invariant: "not found" is said only of what was looked at, and a fault is reported as itself: one signature that the
// record does not explain is one finding, with its digest, and not a number that is off by one.
//
// Refuses: to repair, to sign, to say that something never happened where software cannot see it.
package proof
