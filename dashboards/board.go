package dashboards

// Tag marks our dashboards; they link to one another by it.
const Tag = "parley"

// Boards returns every dashboard, in the order in which one reads them.
func Boards() []Dashboard {
	return []Dashboard{overview(), providers(), usage(), dependenciesBoard(), runtime(), product()}
}

// base is what all dashboards have in common; vars are further variables.
func base(uid, title, about string, vars ...Variable) Dashboard {
	return Dashboard{
		UID: uid, Title: "Parley / " + title, Description: about, Tags: []string{Tag},
		SchemaVersion: 42, GraphTooltip: 1, Refresh: "30s", Timezone: "browser",
		Time:       TimeRange{From: "now-6h", To: "now"},
		Links:      []Link{{Title: "Parley", Type: "dashboards", Tags: []string{Tag}, IncludeVars: true, KeepTime: true}},
		Templating: Templating{List: append([]Variable{sourceVar("datasource", "Data source", "prometheus"), jobVar, instanceVar}, vars...)},
		Annotations: Annotations{List: []Annotation{{
			Name: "Starts and deploys", Datasource: prometheus, Enable: true, IconColor: "blue", Step: "60s",
			Expr: placeholders.Replace(`max by (job, instance, version) (process_start_time_seconds{AT}` +
				` * on (job, instance) group_left (version) chat_build_info{AT}) * 1000`),
			TitleFormat: "{{instance}} started", TextFormat: "version {{version}}", UseValueForTime: true,
		}}},
	}
}

var (
	// All jobs are the jobs of Parley and no others: .+ would mix the go_* and
	// http_* metrics of other services in.
	jobVar = allListed(queryVar("job", "Job", `label_values(chat_build_info, job)`))
	// An instance is one of the chosen jobs, and so on.
	instanceVar = queryVar("instance", "Instance", `label_values(chat_build_info{job=~"$job"}, instance)`)
	providerVar = queryVar("provider", "Provider", `label_values(chat_turns_total{job=~"$job", instance=~"$instance"}, provider)`)
	modelVar    = queryVar("model", "Model", `label_values(chat_turns_total{job=~"$job", instance=~"$instance", provider=~"$provider"}, model)`)
	postgresVar = sourceVar("postgres", "Database", "grafana-postgresql-datasource")
)

func sourceVar(name, label, kind string) Variable {
	return Variable{Name: name, Label: label, Type: "datasource", Query: kind, Refresh: 1, Current: map[string]any{}}
}

// every makes "all" the list of the values that there are.
func allListed(v Variable) Variable {
	v.AllValue = ""
	return v
}

func queryVar(name, label, expr string) Variable {
	return Variable{
		Name: name, Label: label, Type: "query", Datasource: &prometheus, Definition: expr,
		Query:   map[string]any{"query": expr, "refId": name},
		Refresh: 2, Sort: 1, Multi: true, IncludeAll: true, AllValue: ".+",
		Current: map[string]any{"text": []string{"All"}, "value": []string{"$__all"}},
	}
}
