package sqlite

// LogFrames is where in the log the last commit ends.
func (s *Store) LogFrames() int64 {
	h, _ := s.index.header()
	return int64(h.frames())
}
