package tlog

import (
	"crypto/sha256"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"bulkhead"
)

// LeafHash is the RFC 6962 section 2.1 hash of a leaf: SHA-256(0x00 || leaf).
func LeafHash(leaf []byte) bulkhead.Hash { return bulkhead.Hash(tlog.RecordHash(leaf)) }

// Chain is the link of the store's row chain: SHA-256(prev || SHA-256(leaf)). The first row's prev is the zero hash.
func Chain(prev bulkhead.Hash, leaf []byte) bulkhead.Hash {
	sum := sha256.Sum256(leaf)
	var both [2 * sha256.Size]byte
	copy(both[:], prev[:])
	copy(both[sha256.Size:], sum[:])
	return sha256.Sum256(both[:])
}

// BatchRoot is the RFC 6962 Merkle tree hash over the digests of a batch, each digest being a leaf. The root of no
// digests is SHA-256 of nothing.
func BatchRoot(digests []bulkhead.Hash) bulkhead.Hash {
	if len(digests) == 0 {
		return bulkhead.Digest(nil)
	}
	return bulkhead.Hash(subtree(digests))
}

func subtree(digests []bulkhead.Hash) tlog.Hash {
	if len(digests) == 1 {
		return tlog.RecordHash(digests[0][:])
	}
	k := split(len(digests))
	return tlog.NodeHash(subtree(digests[:k]), subtree(digests[k:]))
}

// split is the largest power of two below n, n > 1.
func split(n int) int {
	k := 1
	for k<<1 < n {
		k <<= 1
	}
	return k
}

// BatchPath is the audit path (RFC 6962 section 2.1.1) of digests[index] in BatchRoot(digests), nearest first. It
// fails when index is not in the batch.
func BatchPath(digests []bulkhead.Hash, index int) ([]bulkhead.Hash, error) {
	if index < 0 || index >= len(digests) {
		return nil, fmt.Errorf("index %d is not in a batch of %d", index, len(digests))
	}
	var path []bulkhead.Hash
	for len(digests) > 1 { // from the root down; reversed below
		k := split(len(digests))
		if index < k {
			path = append(path, bulkhead.Hash(subtree(digests[k:])))
			digests = digests[:k]
		} else {
			path = append(path, bulkhead.Hash(subtree(digests[:k])))
			digests, index = digests[k:], index-k
		}
	}
	for i, j := 0, len(path)-1; i < j; i, j = i+1, j-1 {
		path[i], path[j] = path[j], path[i]
	}
	return path, nil
}

// VerifyBatchPath checks that digest is member index of the batch of size members with this root. The error wraps
// ErrProof when it is not.
func VerifyBatchPath(root, digest bulkhead.Hash, index, size int, path []bulkhead.Hash) error {
	proof := make(tlog.RecordProof, len(path))
	for i, h := range path {
		proof[i] = tlog.Hash(h)
	}
	if index < 0 || index >= size {
		return fmt.Errorf("index %d is not in a batch of %d: %w", index, size, ErrProof)
	}
	if err := tlog.CheckRecord(proof, int64(size), tlog.Hash(root), int64(index), tlog.RecordHash(digest[:])); err != nil {
		return fmt.Errorf("member %d of a batch of %d: %w", index, size, ErrProof)
	}
	return nil
}
