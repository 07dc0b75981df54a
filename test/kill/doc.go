// Package kill ends the real program in the middle of its work, again and again, and then looks for what was lost.
//
// Purpose: a driver obtains and revokes certificates without a pause while the server is killed (SIGKILL to its process
// group) at seeded random moments, starts and first starts included, and at chosen system calls. At the end the record,
// the evidence, OCSP and the CRLs are held against what the driver was told.
//
// Invariant: the driver believes nothing but what it received. A certificate that it holds, or a revocation that was
// acknowledged to it, must be found everywhere; whatever it was not told may have happened or not, but wholly.
//
// A power cut is played from a recording: strace takes down what a process writes, syncs and names, and what a disk may then hold at
// any moment is rebuilt and started.
//
// Refuses: to skip. With BULKHEAD_TORTURE=1 it kills 1,000 times on each store and sweeps every system call;
// BULKHEAD_SEED repeats the moments of another run.
package kill
