package dashboards

// Where links of the generated files lead. Whoever runs Parley elsewhere
// generates with own ones: go run ./dashboards/gen -grafana URL -runbooks URL.
var (
	Grafana  = "http://localhost:3000"
	Runbooks = "https://git.example.com/parley/blob/main/docs/runbooks"
)
