{{- /*
What cannot work is refused before anything is installed. The schema of the values sees each value alone, and can be
switched off.
*/}}
{{- define "crrmon.check" -}}
{{- $kind := include "crrmon.ledgerKind" . }}
{{- $config := .Values.config }}
{{- $scaler := .Values.keda.enabled | ternary "keda" "autoscaling" }}
{{- if not (has $kind (list "sqlite" "redis" "dynamodb" "memory")) }}
{{- fail (printf "config.ledger.kind is %q: set it to sqlite, redis, dynamodb or memory" $kind) }}
{{- end }}
{{- if not .Values.image.repository }}
{{- fail (printf "image.repository is empty, and no image of crrmon is published: build it in the top of the repository (docker buildx build --platform linux/amd64 --tag REGISTRY/crrmon:%s --push .) and set image.repository to REGISTRY/crrmon" .Chart.AppVersion) }}
{{- end }}
{{- $budget := .Values.podDisruptionBudget }}
{{- $away := has $budget.minAvailable (list nil "") | ternary $budget.maxUnavailable "unused" }}
{{- range $name, $value := dict "replicaCount" .Values.replicaCount "persistence.size" .Values.persistence.size "podDisruptionBudget.maxUnavailable" $away }}
{{- if kindIs "invalid" $value }}
{{- fail (printf "%s is null: give it a value, or leave it out to get the default" $name) }}
{{- end }}
{{- end }}
{{- $path := dig "ledger" "path" "crrmon.db" $config }}
{{- if and (eq $kind "sqlite") (hasPrefix "/" $path) (not (hasPrefix "/data/" $path)) (not .Values.extraVolumeMounts) }}
{{- fail (printf "config.ledger.path is %s, where nothing can be written: the volume is mounted at /data" $path) }}
{{- end }}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}
{{- fail "autoscaling.enabled and keda.enabled are both true, and they would work against each other: switch one of them off" }}
{{- end }}
{{- if and (include "crrmon.several" .) (not (include "crrmon.shared" .)) }}
{{- if include "crrmon.autoscaled" . }}
{{- fail (printf "%s.enabled is true, but the ledger of config.ledger.kind %s belongs to one replica: set config.ledger.kind to redis or dynamodb, or %s.enabled to false" $scaler $kind $scaler) }}
{{- end }}
{{- fail (printf "replicaCount is %d, but the ledger of config.ledger.kind %s belongs to one replica: set config.ledger.kind to redis or dynamodb, or replicaCount to 1" (int .Values.replicaCount) $kind) }}
{{- end }}
{{- if include "crrmon.autoscaled" . }}
{{- $settings := index .Values $scaler }}
{{- if lt (int $settings.minReplicas) 1 }}
{{- fail (printf "%s.minReplicas is %d, but pending objects are looked at while the queue is empty, too: set it to 1 or more" $scaler (int $settings.minReplicas)) }}
{{- end }}
{{- if lt (int $settings.maxReplicas) (int $settings.minReplicas) }}
{{- fail (printf "%s.maxReplicas is %d and less than %s.minReplicas, %d: raise the one or lower the other" $scaler (int $settings.maxReplicas) $scaler (int $settings.minReplicas)) }}
{{- end }}
{{- end }}
{{- $named := dict }}
{{- range .Values.env }}
{{- $_ := set $named (upper .name) . }}
{{- end }}
{{- range $name, $key := dict "CRRMON_CONFIG" "existingConfigMap" "CRRMON_HTTP" "config.http" "CRRMON_HTTP__HOST" "config.http.host" "CRRMON_HTTP__PORT" "config.http.port" "CRRMON_LEDGER" "config.ledger" "CRRMON_LEDGER__KIND" "config.ledger.kind" "CRRMON_LEDGER__REDIS" "config.ledger.redis" "CRRMON_SHUTDOWN_SECONDS" "config.shutdown_seconds" }}
{{- if hasKey $named $name }}
{{- fail (printf "env sets %s, and the rest of the chart would not know: set %s instead" $name $key) }}
{{- end }}
{{- end }}
{{- range $name, $remedy := dict "CRRMON_LEDGER__REDIS__PASSWORD" "name that in ledgerPassword.existingSecret" "AWS_SECRET_ACCESS_KEY" "name that in envFrom" "AWS_SESSION_TOKEN" "name that in envFrom" }}
{{- if hasKey (get $named $name | default dict) "value" }}
{{- fail (printf "env gives %s as a value, for everybody to read: put it into a Secret and %s" $name $remedy) }}
{{- end }}
{{- end }}
{{- if dig "ledger" "redis" "password" "" $config }}
{{- fail "config.ledger.redis.password is set, and would stand in a ConfigMap: put it into a Secret and name that in ledgerPassword.existingSecret" }}
{{- end }}
{{- $url := get $named "CRRMON_LEDGER__REDIS__URL" | default dict }}
{{- range $where, $text := dict "config.ledger.redis.url" (dig "ledger" "redis" "url" "" $config) "CRRMON_LEDGER__REDIS__URL in env" (get $url "value") }}
{{- if regexMatch "://.*:.*@" $text }}
{{- fail (printf "%s holds a password, for everybody to read: put it into a Secret and name that in ledgerPassword.existingSecret" $where) }}
{{- end }}
{{- end }}
{{- $elsewhere := or .Values.existingConfigMap .Values.envFrom (hasKey $named "CRRMON_INBOXES") }}
{{- if not (or $config.queues $config.inboxes $elsewhere (hasKey $named "CRRMON_QUEUES")) }}
{{- fail "config.queues is empty, and there is nothing to read: set config.queues[0].url to the URL of an SQS queue, or config.inboxes for stores that post their events" }}
{{- end }}
{{- include "crrmon.checkInboxes" (dict "context" . "elsewhere" $elsewhere) }}
{{- if regexMatch "\"token\"\\s*:" ((get $named "CRRMON_INBOXES" | default dict).value | default "") }}
{{- fail "env gives CRRMON_INBOXES with a token as a value, for everybody to read: put it into a Secret and name that in valueFrom, or the token's in webhook.token.existingSecret" }}
{{- end }}
{{- if le (int (include "crrmon.port" .)) 0 }}
{{- fail "config.http.port is 0, and probes and scrapers need a port they know: set it to one from 1 to 65535" }}
{{- end }}
{{- $host := dig "http" "host" "::" $config }}
{{- if include "crrmon.loopback" $host }}
{{- fail (printf "config.http.host is %s, where neither probes nor scrapers reach the daemon: leave it out" $host) }}
{{- end }}
{{- $stop := dig "shutdown_seconds" 25 $config }}
{{- if le (float64 .Values.terminationGracePeriodSeconds) (float64 $stop) }}
{{- fail (printf "terminationGracePeriodSeconds is %v, but the daemon takes up to config.shutdown_seconds, %v, to hand back what it holds: set it higher than that" .Values.terminationGracePeriodSeconds $stop) }}
{{- end }}
{{- if and .Values.createTable.enabled (ne $kind "dynamodb") }}
{{- fail (printf "createTable.enabled is true, but config.ledger.kind is %s, which has no table: set one of the two" $kind) }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor.enabled and podMonitor.enabled are both true, and everything would be counted twice: switch one of them off" }}
{{- end }}
{{- with .Values.aws.caBundle }}
{{- if and .existingConfigMap .existingSecret }}
{{- fail "aws.caBundle.existingConfigMap and aws.caBundle.existingSecret are both set: name one of them" }}
{{- end }}
{{- end }}
{{- include "crrmon.checkLedger" . }}
{{- end }}

{{- /* Takes the context, and whether the inboxes' tokens may stand where the chart does not see them. */}}
{{- define "crrmon.checkInboxes" -}}
{{- $values := .context.Values }}
{{- $taken := list (include "crrmon.port" .context) }}
{{- range $place, $inbox := $values.config.inboxes }}
{{- $name := printf "config.inboxes[%d]" $place }}
{{- if .token }}
{{- fail (printf "%s.token is set, and would stand in a ConfigMap: put it into a Secret and name that in webhook.token.existingSecret" $name) }}
{{- end }}
{{- if not (or .token_file $values.webhook.token.existingSecret $.elsewhere) }}
{{- fail (printf "%s has no token, and whoever reaches its port could make events up: put one into a Secret and name that in webhook.token.existingSecret" $name) }}
{{- end }}
{{- if include "crrmon.loopback" (.host | default "::") }}
{{- fail (printf "%s.host is %s, where no sender reaches the daemon: leave it out" $name .host) }}
{{- end }}
{{- if eq (dig "port" 9465 . | int) 0 }}
{{- fail (printf "%s.port is 0, and senders need a port they know: set it to one from 1 to 65535" $name) }}
{{- end }}
{{- $port := include "crrmon.inboxPort" . }}
{{- if has $port $taken }}
{{- fail (printf "%s.port is %s, as another inbox or config.http has it: give it one of its own" $name $port) }}
{{- end }}
{{- $taken = append $taken $port }}
{{- end }}
{{- end }}

{{- /*
Helm makes the new workload before it deletes the old one, and a rolling update runs both kinds of pods: with two ledgers
on one queue, each counts what it is handed, and neither knows what is pending in the other. So the ledger of a release
changes only while no replica runs. Without a cluster (`helm template`) there is nothing to look up.
*/}}
{{- define "crrmon.checkLedger" -}}
{{- $ledger := include "crrmon.ledger" . }}
{{- $here := include "crrmon.namespace" . }}
{{- range $kind := list "StatefulSet" "Deployment" }}
{{- range $namespace := list $here $.Release.Namespace | uniq }}
{{- range (lookup "apps/v1" $kind $namespace "").items }}
{{- $annotations := .metadata.annotations | default dict }}
{{- $running := get $annotations "crrmon/ledger" }}
{{- $ours := eq (get $annotations "meta.helm.sh/release-name") $.Release.Name }}
{{- /* Another alias of this chart in the same release is another installation. */}}
{{- $same := regexMatch (printf "^%s-[0-9]+[.]" (regexQuoteMeta $.Chart.Name)) (get (.metadata.labels | default dict) "helm.sh/chart") }}
{{- /* What is not shared is another one in another namespace, whatever it is called. */}}
{{- $moved := and (ne $namespace $here) (not (include "crrmon.shared" $)) }}
{{- if and $running (or $moved (ne $running $ledger)) $ours $same (gt (int .spec.replicas) 0) }}
{{- $keep := eq .metadata.name (include "crrmon.fullname" $) | ternary "leave its settings" "leave nameOverride and fullnameOverride" }}
{{- if $moved }}
{{- $keep = "leave namespaceOverride" }}
{{- end }}
{{- fail (printf "the %s %s runs with the ledger %q, and these values ask for %q, which knows nothing of what is pending or was counted: to keep the ledger, %s as they were; to change it, upgrade with the values as they were and replicaCount 0 (autoscaling.enabled and keda.enabled false), copy what is pending as docs/install-eks.md in the repository says under Upgrades, and then upgrade with these" $kind .metadata.name $running $ledger $keep) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
