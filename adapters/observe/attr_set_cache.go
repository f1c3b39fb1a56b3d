package observe

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// labelSet is what the attributes of a measurement are made from.
type labelSet interface {
	comparable
	attributes() []attribute.KeyValue
}

// attrSetCache keeps the attribute sets of an instrument by the values that they
// are made from: making one sorts and hashes it, which costs more than a count. A
// look allocates nothing.
type attrSetCache[K labelSet] struct {
	mu    sync.RWMutex
	known map[K]metric.MeasurementOption
}

func (s *attrSetCache[K]) of(k K) metric.MeasurementOption {
	s.mu.RLock()
	opt, ok := s.known[k]
	s.mu.RUnlock()
	if ok {
		return opt
	}
	opt = metric.WithAttributeSet(attribute.NewSet(k.attributes()...))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[K]metric.MeasurementOption{}
	}
	s.known[k] = opt
	return opt
}
