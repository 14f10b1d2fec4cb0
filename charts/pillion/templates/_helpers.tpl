{{- /* One installation a cluster: the webhook configurations and the definitions belong to the cluster, so the names are fixed. */}}
{{- define "pillion.name" -}}
pillion-operator
{{- end }}

{{- define "pillion.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "pillion.name" .) }}
{{- end }}

{{- define "pillion.image" -}}
{{- $image := .Values.image }}
{{- if $image.digest }}{{ $image.repository }}@{{ $image.digest }}{{ else }}{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "pillion.selector" -}}
app.kubernetes.io/name: pillion-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pillion.labels" -}}
{{ include "pillion.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}
