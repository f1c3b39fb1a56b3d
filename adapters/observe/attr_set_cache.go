package observe

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// attrSetCache keeps the attribute sets of an instrument by the values that they
// are made from: making one sorts and hashes it, which costs more than a count.
type attrSetCache[K comparable] struct{ known sync.Map }

func (s *attrSetCache[K]) of(k K, attrs func() []attribute.KeyValue) metric.MeasurementOption {
	if opt, ok := s.known.Load(k); ok {
		return opt.(metric.MeasurementOption)
	}
	opt := metric.WithAttributeSet(attribute.NewSet(attrs()...))
	s.known.Store(k, opt)
	return opt
}
