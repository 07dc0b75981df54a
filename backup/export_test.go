package backup

// ReadPlain lets a fuzzer in behind the seal.
var ReadPlain = readPlain
