// Package tlog is the format of the evidence log: how a leaf is written, how leaves are chained and batched, and how
// a reader proves from tiles and a signed checkpoint alone what the log says.
//
// Purpose: the writers of evidence and a stranger who audits them share these formats and nothing else.
//
// Invariant: one Evidence has exactly one encoding. Parse accepts only what Marshal produces, so
// Marshal(Parse(x)) == x for every leaf x, and two readers cannot disagree about a leaf.
//
// Refuses: unknown versions, trailing bytes, text that is not UTF-8, lengths that are not minimal, times before 1970,
// checkpoints with a foreign origin or signature, tiles that do not hash to the checkpoint. It has no clock, no
// context and no I/O: tiles come through a TileReader that the caller fills.
//
// # Leaf layout
//
// In the presentation language of RFC 8446 section 3 (integers are big-endian):
//
//	opaque Digest<0..32>;          // length 0 (none) or 32; 32 zero bytes are refused
//
//	struct {
//	    uint8  version = 1;
//	    uint16 kind;               // bulkhead.EvidenceKind, never 0
//	    uint64 time;               // milliseconds since 1970-01-01T00:00:00Z
//	    opaque actor<0..255>;      // UTF-8
//	    opaque authority<0..255>;  // UTF-8
//	    opaque serial<0..20>;      // big-endian magnitude without leading zeros; empty for none
//	    opaque ref<0..255>;        // UTF-8
//	    Digest key_hash;
//	    Digest signer;
//	    Digest digest;
//	    Digest link;
//	    uint64 count;              // at most 2^63-1
//	    opaque detail<0..4096>;    // UTF-8, length prefix of two bytes
//	} Leaf;
//
// Every length prefix is one byte, except that of detail. A leaf is at most 5,038 bytes. What each kind puts into
// which field is written in doc/evidence-format.md.
//
// # Log layout
//
// Tiles, entry bundles and checkpoints follow C2SP tlog-tiles and tlog-checkpoint: tile/L/N[.p/W] holds up to 256
// hashes, tile/entries/N[.p/W] up to 256 leaves each with a two-byte length prefix, hashing as in RFC 6962 section 2.1.
package tlog
