package rel

// SetSearchWindow makes one search go back n evidence numbers.
func SetSearchWindow(s *Store, n int64) { s.window = n }
