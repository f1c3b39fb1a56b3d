package replies

// Draining reports whether new runs are refused.
func (s *Service) Draining() bool { return s.isDraining() }
