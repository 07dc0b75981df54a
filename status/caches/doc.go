// Package caches models the caches between the edges and the clients, says when the last wrong answer in them dies,
// purges them, and verifies each by fetching through it.
//
// Purpose: after a correction, to know to the second when it has arrived everywhere, and which node is behind.
//
// Invariant: a purge begins only after the head with the change is public and every edge serves it, and runs from the
// origin outwards; a tier is clean when an answer fetched through each of its nodes is the newest one, never because a
// purge was accepted. No purge is believed to reach a client: a wrong answer lives until its nextUpdate there.
//
// Refuses: a purge before publication, to dial anything but configured addresses, redirects, proxies from the
// environment, answers above a limit, and to show a secret.
package caches
