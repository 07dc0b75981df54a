package store_test

import (
	"bulkhead/enroll"
	"bulkhead/evidence"
	"bulkhead/quorum"
	"bulkhead/signer"
	"bulkhead/status"
	"bulkhead/store/sqlite"
	"bulkhead/watch"
)

var (
	_ signer.Store  = (*sqlite.Store)(nil)
	_ enroll.Store  = (*sqlite.Store)(nil)
	_ status.Store  = (*sqlite.Store)(nil)
	_ evidence.Rows = (*sqlite.Store)(nil)
	_ quorum.Store  = (*sqlite.Store)(nil)
	_ watch.Store   = (*sqlite.Store)(nil)
)
