{{- define "parley.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "parley.selector" -}}
app.kubernetes.io/name: parley
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "parley.labels" -}}
{{ include "parley.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "parley.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Fewest instances. */}}
{{- define "parley.instances" -}}
{{- if .Values.autoscaling.enabled }}{{ .Values.autoscaling.minReplicas }}{{ else }}{{ .Values.replicas }}{{ end -}}
{{- end -}}

{{/* Environment of every container of Parley. */}}
{{- define "parley.env" -}}
{{- $memory := .Values.resources.limits.memory -}}
{{- if not (hasSuffix "Mi" $memory) }}{{ fail "resources.limits.memory must be in Mi: GOMEMLIMIT is made from it" }}{{ end -}}
{{- $own := dict "ADDR" ":8080" "ADMIN_ADDR" ":9464" "DATA_DIR" "/data" "LOG_FORMAT" "json"
  "INSTANCES" (include "parley.instances" .)
  "DRAIN_DELAY" (printf "%ds" (int .Values.drain.delaySeconds)) "SHUTDOWN_TIMEOUT" (printf "%ds" (int .Values.drain.shutdownSeconds))
  "GOMEMLIMIT" (printf "%dMiB" (div (mul (trimSuffix "Mi" $memory | int) 9) 10)) -}}
- name: INSTANCE
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- range $name, $value := merge (dict) .Values.settings $own }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* What a container may do: nothing but compute and connect. */}}
{{- define "parley.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "parley.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "parley.dataClaim" -}}
{{- .Values.data.existingClaim | default (printf "%s-data" (include "parley.name" .)) -}}
{{- end -}}

{{- define "parley.dataVolume" -}}
- name: data
{{- if .Values.data.persistent }}
  persistentVolumeClaim: {claimName: {{ include "parley.dataClaim" . }}}
{{- else }}
  emptyDir: {sizeLimit: {{ .Values.data.size }}}
{{- end }}
- name: tmp
  emptyDir: {}
{{- end -}}
