//go:build race

package edge

// spareAllocations: the race detector makes sync.Pool drop a quarter of what it is given.
const spareAllocations = 8
