package dashboards

// Where the links of the generated files lead. For other addresses, generate
// again: go run ./dashboards/gen -grafana URL -runbooks URL.
var (
	Grafana  = "http://localhost:3000"
	Runbooks = "https://git.example.com/parley/blob/main/docs/runbooks"
)
