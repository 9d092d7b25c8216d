{{- /* What the chart reads from the daemon's configuration. */}}

{{- define "crrmon.ledgerKind" -}}
{{- dig "ledger" "kind" "sqlite" .Values.config }}
{{- end }}

{{- /*
A description that identifies the ledger: two ledgers with different ones know nothing of each other. What `env`
overrides is not seen. Of a URL only server and database count, not the credentials.
*/}}
{{- define "crrmon.ledger" -}}
{{- $kind := include "crrmon.ledgerKind" . }}
{{- if eq $kind "sqlite" }}
{{- $claim := .Values.persistence.existingClaim | default (printf "ledger-%s-0" (include "crrmon.fullname" .)) }}
{{- $place := .Values.persistence.enabled | ternary (printf "claim %s" $claim) (printf "pods of %s" (include "crrmon.fullname" .)) }}
{{- printf "sqlite %s, %s" (dig "ledger" "path" "crrmon.db" .Values.config) $place }}
{{- else if eq $kind "redis" }}
{{- $url := dig "ledger" "redis" "url" "redis://127.0.0.1:6379/0" .Values.config }}
{{- $database := (urlParse $url).path | trimAll "/" | default "0" }}
{{- printf "redis %s:%s/%s, prefix %s" (urlParse $url).hostname (include "crrmon.urlPort" $url) $database (dig "ledger" "redis" "prefix" "crrmon" .Values.config) }}
{{- else if eq $kind "dynamodb" }}
{{- $region := dig "ledger" "dynamodb" "region" "" .Values.config }}
{{- printf "dynamodb table %s%s" (dig "ledger" "dynamodb" "table" "crrmon" .Values.config) ($region | empty | ternary "" (printf " in %s" $region)) }}
{{- else }}
{{- printf "%s of %s" $kind (include "crrmon.fullname" .) }}
{{- end }}
{{- end }}

{{- /* Whether there can be several replicas: not empty, if so. */}}
{{- define "crrmon.shared" -}}
{{- if has (include "crrmon.ledgerKind" .) (list "redis" "dynamodb") }}yes{{ end }}
{{- end }}

{{- define "crrmon.autoscaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled }}yes{{ end }}
{{- end }}

{{- /*
How many replicas the Deployment asks for; empty: the current number.

If a scaler is enabled, it owns the number. But a number that Helm has set before must not be omitted while Helm still
owns it: Kubernetes would reset it to one. With server-side apply the object shows who owns it, and setting the scaler's
number would be a conflict. With Helm 3's apply it does not show that, and an omitted number is removed, whoever set it.
*/}}
{{- define "crrmon.replicas" -}}
{{- if not (include "crrmon.autoscaled" .) }}
{{- .Values.replicaCount | int }}
{{- else }}
{{- with lookup "apps/v1" "Deployment" (include "crrmon.namespace" .) (include "crrmon.fullname" .) }}
{{- $applied := dict }}
{{- range .metadata.managedFields }}
{{- if eq .operation "Apply" }}
{{- $applied = merge $applied (dig "fieldsV1" "f:spec" dict .) }}
{{- end }}
{{- end }}
{{- if or (not $applied) (hasKey $applied "f:replicas") }}
{{- $scaler := $.Values.keda.enabled | ternary "keda" "autoscaling" }}
{{- /* With no replicas, scalers do nothing. */}}
{{- .spec.replicas | int | default (index $.Values $scaler "minReplicas" | int) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Whether there is more than one replica, now or later: not empty, if so. */}}
{{- define "crrmon.several" -}}
{{- if or (include "crrmon.autoscaled" .) (gt (int .Values.replicaCount) 1) }}yes{{ end }}
{{- end }}

{{- /*
The daemon's configuration. It fills in what an inbox does not set: in a pod no sender can reach the daemon's own
default, which is loopback, and secrets are files.
*/}}
{{- define "crrmon.config" -}}
{{- $config := .Values.config }}
{{- with $config.inboxes }}
{{- $own := dict "host" "::" }}
{{- if $.Values.webhook.token.existingSecret }}
{{- $_ := set $own "token_file" "/etc/crrmon-webhook/token" }}
{{- end }}
{{- if $.Values.webhook.tls.existingSecret }}
{{- $_ := set $own "certificate_file" "/etc/crrmon-webhook-tls/tls.crt" }}
{{- $_ := set $own "key_file" "/etc/crrmon-webhook-tls/tls.key" }}
{{- end }}
{{- $inboxes := list }}
{{- range . }}
{{- $inboxes = append $inboxes (merge (deepCopy .) $own) }}
{{- end }}
{{- $config = set (deepCopy $config) "inboxes" $inboxes }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{- define "crrmon.inboxPort" -}}
{{- .port | default 9465 | int }}
{{- end }}

{{- /* The name of an inbox's port; that of the inbox itself may be too long for one. */}}
{{- define "crrmon.inboxPortName" -}}
webhook-{{ include "crrmon.inboxPort" . }}
{{- end }}

{{- /* Whether an address cannot be reached from outside the pod: not empty, if so. */}}
{{- define "crrmon.loopback" -}}
{{- if regexMatch "^(127[.].*|\\[?::1\\]?|localhost)$" . }}yes{{ end }}
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

{{- /* How the hosts of AWS end, as a pattern; the daemon's own is in src/crrmon/domain/queue_address.py. */}}
{{- define "crrmon.awsSuffixes" -}}
(?:amazonaws\.com(?:\.cn)?|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)
{{- end }}

{{- define "crrmon.awsDualStackSuffixes" -}}
(?:api\.aws|api\.amazonwebservices\.(?:com\.cn|eu)|api\.aws\.ic\.gov|api\.aws\.scloud|api\.cloud-aws\.adc-e\.uk|api\.aws\.hci\.ic\.gov)
{{- end }}

{{- define "crrmon.queueHost" -}}
{{- (urlParse .url).hostname | lower | trimSuffix "." }}
{{- end }}

{{- /* The region of a queue, from its entry or its URL; otherwise the chart's; may be empty. Takes the context and the queue. */}}
{{- define "crrmon.queueRegion" -}}
{{- $read := "" }}
{{- $host := include "crrmon.queueHost" .queue }}
{{- $suffixes := include "crrmon.awsSuffixes" . }}
{{- $usual := printf "^(?:vpce-[a-z0-9-]+\\.)?sqs(?:-fips)?\\.([a-z0-9-]+)\\.(?:(?:vpce\\.)?%s|%s)$" $suffixes (include "crrmon.awsDualStackSuffixes" .) }}
{{- $older := printf "^([a-z0-9-]+)\\.queue\\.%s$" $suffixes }}
{{- if regexMatch $usual $host }}
{{- $read = regexReplaceAll $usual $host "${1}" }}
{{- else if regexMatch $older $host }}
{{- $read = regexReplaceAll $older $host "${1}" }}
{{- else if eq $host "queue.amazonaws.com" }}
{{- $read = "us-east-1" }}
{{- end }}
{{- .queue.region | default $read | default (dig "aws" "region" "" .context.Values.config) | default .context.Values.aws.region }}
{{- end }}

{{- /* The endpoint of a queue, if it differs from the one an SDK uses in its region by default. Takes the context and the queue. */}}
{{- define "crrmon.queueEndpoint" -}}
{{- $set := dig "aws" "endpoint_url" "" .context.Values.config }}
{{- $left := printf "^(?:sqs\\.[a-z0-9-]+|(?:[a-z0-9-]+\\.)?queue)\\.%s$" (include "crrmon.awsSuffixes" .) }}
{{- if $set }}
{{- $set }}
{{- else if not (regexMatch $left (include "crrmon.queueHost" .queue)) }}
{{- $parts := urlParse .queue.url }}
{{- $parts.scheme }}://{{ $parts.host }}
{{- end }}
{{- end }}

{{- /* The port of a URL. */}}
{{- define "crrmon.urlPort" -}}
{{- $host := (urlParse .).host }}
{{- if regexMatch ":[0-9]+$" $host }}
{{- regexFind "[0-9]+$" $host }}
{{- else }}
{{- dict "https" 443 "http" 80 | dig (urlParse .).scheme 6379 }}
{{- end }}
{{- end }}
