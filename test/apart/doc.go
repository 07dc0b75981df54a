// Package apart starts a house whose roles are processes apart: each with its own user, the signer and the evidence log
// without any network, PostgreSQL with a user for each role, objects in an S3-compatible bucket. Then it is the taken-over
// web tier, and tries everything that it must not be able to do; and the crash, role by role, while status is asked for.
//
// Invariant: it speaks to the programs as a stranger or an intruder would (curl, psql, openssl) and imports nothing of
// the house. Refuses: to pass where it could not look; without root it fails and says why.
package apart
