{{- /* What a ServiceMonitor and a PodMonitor have in common. Takes the context, the settings and the name of the endpoints. */}}
{{- define "crrmon.monitor" -}}
metadata:
  {{- include "crrmon.metadata" (dict "context" .context "namespace" .settings.namespace "labels" .settings.labels) | nindent 2 }}
spec:
  namespaceSelector:
    matchNames:
      - {{ include "crrmon.namespace" .context | quote }}
  selector:
    matchLabels:
      {{- include "crrmon.selectorLabels" .context | nindent 6 }}
  {{- with .settings.sampleLimit }}
  sampleLimit: {{ int . }}
  {{- end }}
  {{- $endpoint := dict "port" "http" "path" "/metrics" }}
  {{- range $key := list "interval" "scrapeTimeout" "relabelings" "metricRelabelings" }}
  {{- with index $.settings $key }}
  {{- $_ := set $endpoint $key . }}
  {{- end }}
  {{- end }}
  {{ .endpoints }}:
    - {{- mergeOverwrite $endpoint (.settings.endpoint | default dict) | toYaml | nindent 6 }}
{{- end }}
