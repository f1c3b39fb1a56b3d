package replies

// Draining reports whether new runs are refused.
func (s *Service) Draining() bool { return s.isDraining() }

// Closed reports whether the end of this instance waits for its runs.
func (s *Service) Closed() bool {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	return s.registry.closed
}
