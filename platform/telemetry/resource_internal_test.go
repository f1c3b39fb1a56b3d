package telemetry

import (
	"testing"

	semconv "go.opentelemetry.io/otel/semconv/v1.41.0"
)

// TestDescribe_KeysOfOneVersion: the resource has the schema of the conventions, and
// the environment overrides its attributes.
func TestDescribe_KeysOfOneVersion(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=9")
	res, err := describe(t.Context(), Options{Service: "parley", Version: "1", Instance: "i"})
	if err != nil {
		t.Fatal(err)
	}
	if res.SchemaURL() != semconv.SchemaURL {
		t.Errorf("schema %q", res.SchemaURL())
	}
	for key, want := range map[string]string{
		"service.name": "parley", "service.version": "9", "service.instance.id": "i",
		"telemetry.sdk.name": "opentelemetry", "telemetry.sdk.language": "go", "deployment.environment.name": "test",
	} {
		found := ""
		for _, a := range res.Attributes() {
			if string(a.Key) == key {
				found = a.Value.AsString()
			}
		}
		if found != want {
			t.Errorf("%s is %q, want %q", key, found, want)
		}
	}
}
