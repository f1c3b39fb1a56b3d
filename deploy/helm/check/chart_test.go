// Package check renders the chart with Helm's own engine and reads the result into
// the types of Kubernetes and of the Prometheus operator. It is a module of its
// own, so that Parley depends on neither.
package check

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"sigs.k8s.io/yaml"
)

const chartDir = "../parley"

// kinds makes an empty object of each kind that the chart may have.
var kinds = map[string]func() any{
	"v1/ConfigMap":                            func() any { return new(corev1.ConfigMap) },
	"v1/Service":                              func() any { return new(corev1.Service) },
	"v1/ServiceAccount":                       func() any { return new(corev1.ServiceAccount) },
	"v1/PersistentVolumeClaim":                func() any { return new(corev1.PersistentVolumeClaim) },
	"apps/v1/Deployment":                      func() any { return new(appsv1.Deployment) },
	"batch/v1/Job":                            func() any { return new(batchv1.Job) },
	"batch/v1/CronJob":                        func() any { return new(batchv1.CronJob) },
	"autoscaling/v2/HorizontalPodAutoscaler":  func() any { return new(autoscalingv2.HorizontalPodAutoscaler) },
	"policy/v1/PodDisruptionBudget":           func() any { return new(policyv1.PodDisruptionBudget) },
	"networking.k8s.io/v1/NetworkPolicy":      func() any { return new(networkingv1.NetworkPolicy) },
	"networking.k8s.io/v1/Ingress":            func() any { return new(networkingv1.Ingress) },
	"monitoring.coreos.com/v1/ServiceMonitor": func() any { return new(monitoringv1.ServiceMonitor) },
	"monitoring.coreos.com/v1/PrometheusRule": func() any { return new(monitoringv1.PrometheusRule) },
}

// render returns the chart's objects with values files, one after the other, and
// single values, by kind and name.
func render(t *testing.T, kube string, files []string, set map[string]any) (map[string]any, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]any{}
	for _, name := range files {
		more, err := chartutil.ReadValuesFile(filepath.Join(chartDir, "values", name))
		if err != nil {
			t.Fatal(err)
		}
		mergeInto(values, more)
	}
	mergeInto(values, set)
	version, err := chartutil.ParseKubeVersion(kube)
	if err != nil {
		t.Fatal(err)
	}
	capabilities := *chartutil.DefaultCapabilities
	capabilities.KubeVersion = *version
	options := chartutil.ReleaseOptions{Name: "parley", Namespace: "chat", Revision: 1, IsInstall: true}
	with, err := chartutil.ToRenderValues(chart, values, options, &capabilities)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Engine{Strict: true}.Render(chart, with)
	if err != nil {
		return nil, err
	}
	objects := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for _, document := range regexp.MustCompile(`(?m)^---\s*$`).Split(rendered[name], -1) {
			if strings.TrimSpace(document) != "" {
				add(t, objects, name, document)
			}
		}
	}
	return objects, nil
}

func mergeInto(values, more map[string]any) {
	for name, value := range more {
		inner, isMap := value.(map[string]any)
		if have, ok := values[name].(map[string]any); ok && isMap {
			mergeInto(have, inner)
			continue
		}
		values[name] = value
	}
}

// add decodes a document strictly: unknown and repeated members are mistakes.
func add(t *testing.T, objects map[string]any, file, document string) {
	t.Helper()
	var meta struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct {
			Name   string            `json:"name"`
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
	}
	if err := yaml.Unmarshal([]byte(document), &meta); err != nil {
		t.Fatalf("%s: %v\n%s", file, err, document)
	}
	kind := meta.APIVersion + "/" + meta.Kind
	if kinds[kind] == nil {
		t.Fatalf("%s: there is no kind %s", file, kind)
	}
	object := kinds[kind]()
	if err := yaml.UnmarshalStrict([]byte(document), object); err != nil {
		t.Errorf("%s: %s: %v\n%s", file, meta.Metadata.Name, err, document)
	}
	if mistakes := content.IsDNS1123Subdomain(meta.Metadata.Name); len(mistakes) > 0 {
		t.Errorf("%s: %s: %v", file, meta.Metadata.Name, mistakes)
	}
	for name, value := range meta.Metadata.Labels {
		if mistakes := append(content.IsLabelKey(name), content.IsLabelValue(value)...); len(mistakes) > 0 {
			t.Errorf("%s: label %s=%s: %v", file, name, value, mistakes)
		}
	}
	if len(document) > 900_000 {
		t.Errorf("%s: %s has %d bytes, more than Kubernetes keeps", file, meta.Metadata.Name, len(document))
	}
	id := meta.Kind + "/" + meta.Metadata.Name
	if objects[id] != nil {
		t.Errorf("%s: %s stands twice", file, id)
	}
	objects[id] = object
}

func get[T any](t *testing.T, objects map[string]any, id string) *T {
	t.Helper()
	object, ok := objects[id].(*T)
	if !ok {
		t.Fatalf("there is no %s; there are %v", id, slices.Sorted(maps.Keys(objects)))
	}
	return object
}

// examples are the ways in which the values files are meant to be combined.
var examples = map[string][]string{
	"Defaults":      nil,
	"Small":         {"small.yaml"},
	"Production":    {"production.yaml"},
	"WithPgBouncer": {"production.yaml", "with-pgbouncer.yaml"},
}

// TestChart_Renders: with every values file, and with everything switched on, the
// objects are ones that Kubernetes takes.
func TestChart_Renders(t *testing.T) {
	used := map[string]bool{}
	for name, files := range examples {
		t.Run(name, func(t *testing.T) {
			for _, kube := range []string{"v1.29.0", "v1.34.0"} {
				objects, err := render(t, kube, files, nil)
				if err != nil {
					t.Fatal(err)
				}
				checkDeployment(t, kube, objects)
				checkReferences(t, objects)
			}
		})
		for _, file := range files {
			used[file] = true
		}
	}
	t.Run("Everything", func(t *testing.T) {
		objects, err := render(t, "v1.34.0", examples["WithPgBouncer"], map[string]any{
			"image":            map[string]any{"digest": "sha256:" + strings.Repeat("a", 64)},
			"imagePullSecrets": []any{map[string]any{"name": "registry"}},
			"podLabels":        map[string]any{"team": "chat"}, "podAnnotations": map[string]any{"a": "b"},
			"nodeSelector": map[string]any{"disk": "ssd"}, "tolerations": []any{map[string]any{"key": "chat", "operator": "Exists"}},
			"service": map[string]any{"annotations": map[string]any{"a": "b"}},
			"data":    map[string]any{"persistent": true, "existingClaim": "shared"},
			"backup":  map[string]any{"storageClass": "slow"},
			"files":   map[string]any{"tiers.json": `{"authenticated": {"requestsPerMinute": 200}}`}, "settings": map[string]any{"TIERS_FILE": "/etc/parley/tiers.json"},
			"serviceAccount": map[string]any{"annotations": map[string]any{"cloud.example.com/role": "parley"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		pod := get[appsv1.Deployment](t, objects, "Deployment/parley").Spec.Template.Spec
		if get[corev1.ConfigMap](t, objects, "ConfigMap/parley-files").Data["tiers.json"] == "" || pod.Containers[0].VolumeMounts[2].MountPath != "/etc/parley" {
			t.Errorf("%+v", pod.Containers[0].VolumeMounts)
		}
		if get[corev1.ServiceAccount](t, objects, "ServiceAccount/parley").Annotations["cloud.example.com/role"] != "parley" {
			t.Error("the service account has no annotation")
		}
		if !strings.HasSuffix(pod.Containers[0].Image, "@sha256:"+strings.Repeat("a", 64)) || pod.Volumes[0].PersistentVolumeClaim.ClaimName != "shared" {
			t.Errorf("%+v", pod)
		}
	})
	there, err := filepath.Glob(filepath.Join(chartDir, "values", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range there {
		if !used[filepath.Base(path)] {
			t.Errorf("no test renders %s", path)
		}
	}
}

// checkDeployment: the pod may do nothing that it need not, is probed at the admin
// address, and Kubernetes waits until it has drained.
func checkDeployment(t *testing.T, kube string, objects map[string]any) {
	t.Helper()
	deployment := get[appsv1.Deployment](t, objects, "Deployment/parley")
	pod := deployment.Spec.Template.Spec
	c := pod.Containers[0]
	env := map[string]string{}
	for _, e := range c.Env {
		if _, twice := env[e.Name]; twice {
			t.Errorf("%s is set twice", e.Name)
		}
		env[e.Name] = e.Value
	}
	seconds := int64(0)
	for _, name := range []string{"DRAIN_DELAY", "SHUTDOWN_TIMEOUT"} {
		n, err := strconv.ParseInt(strings.TrimSuffix(env[name], "s"), 10, 64)
		if err != nil {
			t.Errorf("%s=%s", name, env[name])
		}
		seconds += n
	}
	if kube >= "v1.30" {
		seconds += c.Lifecycle.PreStop.Sleep.Seconds
	}
	if *pod.TerminationGracePeriodSeconds < seconds+10 {
		t.Errorf("Kubernetes waits %d s, the pod may take %d", *pod.TerminationGracePeriodSeconds, seconds)
	}
	for what, probe := range map[string]*corev1.Probe{"/livez": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if probe.HTTPGet.Path != what || probe.HTTPGet.Port.String() != "admin" {
			t.Errorf("probe of %s: %+v", what, probe)
		}
	}
	limit := c.Resources.Limits.Memory().Value()
	if n, err := strconv.ParseInt(strings.TrimSuffix(env["GOMEMLIMIT"], "MiB"), 10, 64); err != nil || n<<20 > limit*95/100 || n<<20 < limit*80/100 {
		t.Errorf("GOMEMLIMIT=%s with a limit of %d bytes", env["GOMEMLIMIT"], limit)
	}
	if hpa, ok := objects["HorizontalPodAutoscaler/parley"].(*autoscalingv2.HorizontalPodAutoscaler); ok {
		if deployment.Spec.Replicas != nil {
			t.Error("the deployment has a number of replicas that the autoscaler would fight with")
		}
		if env["INSTANCES"] != strconv.Itoa(int(*hpa.Spec.MinReplicas)) || hpa.Spec.Metrics[0].Pods.Metric.Name != "chat_runs_active" {
			t.Errorf("INSTANCES=%s; %+v", env["INSTANCES"], hpa.Spec)
		}
	} else if *deployment.Spec.Replicas != 1 {
		t.Errorf("%d replicas", *deployment.Spec.Replicas)
	}
	for name, spec := range pods(objects) {
		if s := spec.SecurityContext; s == nil || !*s.RunAsNonRoot || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || *spec.AutomountServiceAccountToken {
			t.Errorf("%s may do more than it needs: %+v", name, s)
		}
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			s := c.SecurityContext
			if s == nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%s/%s may do more than it needs", name, c.Name)
			}
			if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Cpu().IsZero() {
				t.Errorf("%s/%s has no bounds", name, c.Name)
			}
			if strings.HasSuffix(c.Image, ":latest") || !strings.ContainsAny(c.Image, ":@") {
				t.Errorf("%s/%s: the image %s is not pinned", name, c.Name, c.Image)
			}
			checkSettings(t, name+"/"+c.Name, c)
		}
	}
}

// pods are the pods of all objects.
func pods(objects map[string]any) map[string]corev1.PodSpec {
	list := map[string]corev1.PodSpec{}
	for id, object := range objects {
		switch o := object.(type) {
		case *appsv1.Deployment:
			list[id] = o.Spec.Template.Spec
		case *batchv1.Job:
			list[id] = o.Spec.Template.Spec
		case *batchv1.CronJob:
			list[id] = o.Spec.JobTemplate.Spec.Template.Spec
		}
	}
	return list
}

// checkSettings: every variable is one that Parley, OpenTelemetry or Go reads, and
// none that holds a secret has its value in the chart.
func checkSettings(t *testing.T, name string, c corev1.Container) {
	t.Helper()
	if !strings.Contains(c.Image, "parley") {
		return
	}
	table, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Env {
		if !bytes.Contains(table, []byte("| `"+e.Name+"` |")) && !strings.HasPrefix(e.Name, "OTEL_") && e.Name != "GOMEMLIMIT" {
			t.Errorf("%s: nothing reads %s", name, e.Name)
		}
		if e.Value != "" && regexp.MustCompile(`SECRET|KEY$|PASSWORD|DSN|^DATABASE_URL|^REDIS_URL`).MatchString(e.Name) {
			t.Errorf("%s: the value of %s is in the chart", name, e.Name)
		}
	}
}

// checkReferences: ports, claims and config maps that objects name are there, and
// selectors find pods.
func checkReferences(t *testing.T, objects map[string]any) {
	t.Helper()
	for id, spec := range pods(objects) {
		for _, v := range spec.Volumes {
			if c := v.ConfigMap; c != nil && objects["ConfigMap/"+c.Name] == nil {
				t.Errorf("%s: there is no config map %s", id, c.Name)
			}
			if c := v.PersistentVolumeClaim; c != nil && objects["PersistentVolumeClaim/"+c.ClaimName] == nil {
				t.Errorf("%s: there is no claim %s", id, c.ClaimName)
			}
		}
	}
	labels := func(id string) map[string]string {
		return get[appsv1.Deployment](t, objects, id).Spec.Template.Labels
	}
	selects := func(id string, selector, labels map[string]string) {
		for name, value := range selector {
			if labels[name] != value {
				t.Errorf("%s selects %s=%s, and finds %v", id, name, value, labels)
			}
		}
	}
	for id, object := range objects {
		target := "Deployment/parley"
		if strings.HasSuffix(id, "-pgbouncer") {
			target = "Deployment/parley-pgbouncer"
		}
		switch o := object.(type) {
		case *corev1.Service:
			selects(id, o.Spec.Selector, labels(target))
			for _, port := range o.Spec.Ports {
				ports := get[appsv1.Deployment](t, objects, target).Spec.Template.Spec.Containers[0].Ports
				if !slices.ContainsFunc(ports, func(p corev1.ContainerPort) bool { return p.Name == port.TargetPort.String() }) {
					t.Errorf("%s: no port %s", id, port.TargetPort.String())
				}
			}
		case *policyv1.PodDisruptionBudget:
			selects(id, o.Spec.Selector.MatchLabels, labels(target))
		case *monitoringv1.ServiceMonitor:
			admin := get[corev1.Service](t, objects, "Service/parley-admin")
			selects(id, o.Spec.Selector.MatchLabels, admin.Labels)
			if o.Spec.Endpoints[0].Port != admin.Spec.Ports[0].Name || admin.Labels[o.Spec.JobLabel] != "parley" {
				t.Errorf("%s: %+v: the job would be %q", id, o.Spec, admin.Labels[o.Spec.JobLabel])
			}
		}
	}
}

// TestChart_Monitoring: rules and dashboards are those of the repository.
func TestChart_Monitoring(t *testing.T) {
	objects, err := render(t, "v1.34.0", examples["Production"], nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"slos", "alerts"} {
		text, err := os.ReadFile("../../../dashboards/alerts/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		var want monitoringv1.PrometheusRuleSpec
		if err := yaml.UnmarshalStrict(text, &want); err != nil {
			t.Fatal(err)
		}
		if got := get[monitoringv1.PrometheusRule](t, objects, "PrometheusRule/parley-"+name).Spec; fmt.Sprint(got) == "" || len(got.Groups) != len(want.Groups) || len(got.Groups) == 0 {
			t.Errorf("%s: %d groups, want %d", name, len(got.Groups), len(want.Groups))
		}
	}
	boards, err := filepath.Glob("../../../dashboards/grafana/*.json")
	if err != nil || len(boards) < 6 {
		t.Fatal(boards, err)
	}
	for _, path := range boards {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		base := filepath.Base(path)
		got := get[corev1.ConfigMap](t, objects, "ConfigMap/parley-"+strings.TrimSuffix(base, ".json"))
		if strings.TrimSpace(got.Data[base]) != strings.TrimSpace(string(want)) || got.Labels["grafana_dashboard"] != "1" {
			t.Errorf("%s differs from the repository's", base)
		}
	}
}

// TestChart_Migrates: the job migrates as the owner, before pods are replaced, and
// then updates the restricted role.
func TestChart_Migrates(t *testing.T) {
	objects, err := render(t, "v1.34.0", examples["Production"], nil)
	if err != nil {
		t.Fatal(err)
	}
	job := get[batchv1.Job](t, objects, "Job/parley-migrate")
	if job.Annotations["helm.sh/hook"] != "pre-install,pre-upgrade" {
		t.Errorf("%v", job.Annotations)
	}
	spec := job.Spec.Template.Spec
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "DATABASE_URL" })
		if i < 0 || c.Env[i].ValueFrom.SecretKeyRef.Name != "parley-owner" || len(c.EnvFrom) > 0 {
			t.Errorf("%s does not run as the owner", c.Name)
		}
	}
	roles, err := os.ReadFile("../../postgres/roles.sql")
	if err != nil {
		t.Fatal(err)
	}
	if got := get[corev1.ConfigMap](t, objects, "ConfigMap/parley-roles").Data["roles.sql"]; strings.TrimSpace(got) != strings.TrimSpace(string(roles)) {
		t.Error("roles.sql differs from the repository's")
	}
}

// TestChart_Refuses: values that cannot work end with a sentence.
func TestChart_Refuses(t *testing.T) {
	for want, set := range map[string]map[string]any{
		"several instances cannot share the volume": {"replicas": 2},
		"ingress.host is not set":                   {"ingress": map[string]any{"enabled": true}},
		"resources.limits.memory must be in Mi":     {"resources": map[string]any{"limits": map[string]any{"memory": "1Gi"}}},
		"replica":                                   {"replica": 2},
		"secrets":                                   {"secrets": "x"},
	} {
		if _, err := render(t, "v1.34.0", nil, set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %s", set, err, want)
		}
	}
}
