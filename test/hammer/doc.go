// Package hammer measures the real program beside Pebble, which stores nothing, over the whole way from an ACME order to
// the certificate in hand.
//
// Purpose: to say how many certificates a second clients get, how long each waits and what each costs the server, in the
// same run as the reference, so that a number means something on any machine.
//
// Invariant: both servers get the same requests from the same client code, in turns, look the names up at the same DNS
// server and fetch every http-01 answer from the same web server. A server whose answer is wrong fails the benchmark.
//
// Refuses: to skip, to reuse an authorisation, to take a certificate over other names for done.
package hammer
