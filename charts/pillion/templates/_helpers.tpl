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
{{ include "pillion.release" . }}
{{- end }}

{{- /* Labels of everything, whatever it belongs to. */}}
{{- define "pillion.release" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* The name that every certificate of the operator is for. */}}
{{- define "pillion.host" -}}
{{ include "pillion.name" . }}.{{ .Release.Namespace }}.svc
{{- end }}

{{- /* Secret with the operator's certificate; empty where the operator makes its own. */}}
{{- define "pillion.tlsSecret" -}}
{{- $tls := .Values.tls }}
{{- if and $tls.existingSecret $tls.certManager.enabled }}
{{- fail "tls.existingSecret and tls.certManager.enabled are both set: cert-manager makes a Secret of its own; unset one of them" }}
{{- end }}
{{- if $tls.certManager.enabled }}{{ include "pillion.name" . }}-tls{{ else }}{{ $tls.existingSecret }}{{ end }}
{{- end }}

{{- /* Secret, made by the chart or by its reader, that has the URL of Redis under the key `url` in each of redis.namespaces; empty without Redis. */}}
{{- define "pillion.redisSecret" -}}
{{- $redis := .Values.redis }}
{{- $sources := list }}
{{- if $redis.url }}{{ $sources = append $sources "redis.url" }}{{ end }}
{{- if $redis.existingSecret }}{{ $sources = append $sources "redis.existingSecret" }}{{ end }}
{{- if $redis.trial.enabled }}{{ $sources = append $sources "redis.trial.enabled" }}{{ end }}
{{- if gt (len $sources) 1 }}
{{- fail (printf "%s are set together: each names a Redis; keep one" (join " and " $sources)) }}
{{- end }}
{{- if and $sources (not $redis.namespaces) }}
{{- fail (printf "%s is set but redis.namespaces is empty: nobody would use it; name the namespaces" (first $sources)) }}
{{- end }}
{{- if and $redis.namespaces (not $sources) }}
{{- fail "redis.namespaces is set but no Redis: set one of redis.url, redis.existingSecret and redis.trial.enabled" }}
{{- end }}
{{- if $sources }}{{ $redis.existingSecret | default "pillion-redis" }}{{ end }}
{{- end }}

{{- define "pillion.testSelector" -}}
app.kubernetes.io/name: pillion-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "pillion.redisSelector" -}}
app.kubernetes.io/name: pillion-redis
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}
