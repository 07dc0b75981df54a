// Package firstlight shows the product from outside: the real program on loopback ports, judged by clients and
// validators that know nothing of it.
//
// Purpose: what a newcomer does on the first day and what goes wrong on the second: issue, verify, revoke, restart,
// rotate, approve, lose the database.
//
// Invariant: nothing is imported but what a stranger could import; every house ends with a clean fsck; every process
// that a test starts ends with it.
//
// Refuses: to skip. A tool that is not installed fails its test with the name of the package to install.
package firstlight
