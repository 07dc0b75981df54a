package rel

// SetSearchWindow makes one search go back n evidence numbers.
func SetSearchWindow(s *Store, n int64) { s.window = n }

// PreviewQueries are the statements of a preview that must not read the record through, with what the plan must say.
var PreviewQueries = map[string]string{
	firstProfile: "USING COVERING INDEX certificates_product (issuer=?)", nextProfile: "USING COVERING INDEX certificates_product (issuer=? AND profile>?)",
	samplesOf: "USING INDEX certificates_product (issuer=? AND profile=? AND not_after>?)", countProducts: "USING COVERING INDEX certificates_product (issuer=?)",
	authorityCertificates: "USING INDEX certificates_ca",
}

// Waiting is how many writes wait for a transaction.
func Waiting(s *Store) int {
	s.group.mu.Lock()
	defer s.group.mu.Unlock()
	return len(s.group.queue)
}
