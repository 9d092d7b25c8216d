{{- /* What the chart reads off the daemon's configuration. */}}

{{- define "crrmon.ledgerKind" -}}
{{- dig "ledger" "kind" "sqlite" .Values.config }}
{{- end }}

{{- /* Whether there can be several replicas: not empty, if so. */}}
{{- define "crrmon.shared" -}}
{{- if has (include "crrmon.ledgerKind" .) (list "redis" "dynamodb") }}yes{{ end }}
{{- end }}

{{- define "crrmon.autoscaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled }}yes{{ end }}
{{- end }}

{{- /* Whether there is more than one replica, now or later: not empty, if so. */}}
{{- define "crrmon.several" -}}
{{- if or (include "crrmon.autoscaled" .) (gt (int .Values.replicaCount) 1) }}yes{{ end }}
{{- end }}

{{- define "crrmon.port" -}}
{{- dig "http" "port" 9464 .Values.config | int }}
{{- end }}

{{- define "crrmon.configMapName" -}}
{{- .Values.existingConfigMap | default (include "crrmon.fullname" .) }}
{{- end }}

{{- define "crrmon.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* The region of a queue, as its entry or its URL tells; else the chart's; maybe empty. Takes the context and the queue. */}}
{{- define "crrmon.queueRegion" -}}
{{- $read := "" }}
{{- $address := "^https://(?:sqs(?:-fips)?\\.([a-z0-9-]+)|([a-z0-9-]+)\\.queue)\\.(?:amazonaws|api)\\..*$" }}
{{- if regexMatch $address .queue.url }}
{{- $read = regexReplaceAll $address .queue.url "${1}${2}" }}
{{- end }}
{{- .queue.region | default $read | default (dig "aws" "region" "" .context.Values.config) | default .context.Values.aws.region }}
{{- end }}

{{- /* The port that a URL leads to. */}}
{{- define "crrmon.urlPort" -}}
{{- $host := (urlParse .).host }}
{{- if regexMatch ":[0-9]+$" $host }}
{{- regexFind "[0-9]+$" $host }}
{{- else }}
{{- dict "https" 443 "http" 80 | dig (urlParse .).scheme 6379 }}
{{- end }}
{{- end }}
