// Package bulkhead holds the words of the house: the nouns of a certificate authority and the legal changes of
// their states. Every compartment speaks in these types and meets the others only through them.
//
// Invariant: nothing in this package reads a clock, a file, a socket, a database or a random source; it imports the
// standard library only. What it refuses: verbs. A rule that needs a decision belongs to the compartment that owns
// the decision; a rule that is a plain fact about a noun (which state may follow which) belongs here.
package bulkhead
