//go:build !race

package edge

const spareAllocations = 0
