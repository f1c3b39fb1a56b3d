package observe

import (
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// sets keeps the sets of attributes that an instrument has told, by what they
// were made from. Making one sorts and hashes it, which costs more than to count.
type sets[K comparable] struct{ known sync.Map }

func (s *sets[K]) of(k K, attrs func() []attribute.KeyValue) metric.MeasurementOption {
	if opt, ok := s.known.Load(k); ok {
		return opt.(metric.MeasurementOption)
	}
	opt := metric.WithAttributeSet(attribute.NewSet(attrs()...))
	s.known.Store(k, opt)
	return opt
}
