{{- /*
Values that cannot work are refused before anything is installed. The schema of the values checks each value by itself,
and can be switched off.
*/}}
{{- define "crrmon.check" -}}
{{- $kind := include "crrmon.ledgerKind" . }}
{{- $config := .Values.config }}
{{- $scaler := .Values.keda.enabled | ternary "keda" "autoscaling" }}
{{- if not (has $kind (list "sqlite" "redis" "dynamodb" "memory")) }}
{{- fail (printf "config.ledger.kind is %q: set it to sqlite, redis, dynamodb or memory" $kind) }}
{{- end }}
{{- if not .Values.image.repository }}
{{- fail (printf "image.repository is empty, and no image of crrmon is published: build it in the top directory of the repository (docker buildx build --platform linux/amd64 --tag REGISTRY/crrmon:%s --push .) and set image.repository to REGISTRY/crrmon" .Chart.AppVersion) }}
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
{{- fail (printf "config.ledger.path is %s, which is not writable: choose a path below /data, where the volume is mounted" $path) }}
{{- end }}
{{- if and .Values.autoscaling.enabled .Values.keda.enabled }}
{{- fail "autoscaling.enabled and keda.enabled are both true, and would conflict: disable one of them" }}
{{- end }}
{{- if and (include "crrmon.several" .) (not (include "crrmon.shared" .)) }}
{{- if include "crrmon.autoscaled" . }}
{{- fail (printf "%s.enabled is true, but a ledger of config.ledger.kind %s supports only one replica: set config.ledger.kind to redis or dynamodb, or %s.enabled to false" $scaler $kind $scaler) }}
{{- end }}
{{- fail (printf "replicaCount is %d, but a ledger of config.ledger.kind %s supports only one replica: set config.ledger.kind to redis or dynamodb, or replicaCount to 1" (int .Values.replicaCount) $kind) }}
{{- end }}
{{- if include "crrmon.autoscaled" . }}
{{- $settings := index .Values $scaler }}
{{- if lt (int $settings.minReplicas) 1 }}
{{- fail (printf "%s.minReplicas is %d, but pending objects must be looked at even while the queue is empty: set it to 1 or more" $scaler (int $settings.minReplicas)) }}
{{- end }}
{{- if lt (int $settings.maxReplicas) (int $settings.minReplicas) }}
{{- fail (printf "%s.maxReplicas is %d and less than %s.minReplicas, %d: raise the first or lower the second" $scaler (int $settings.maxReplicas) $scaler (int $settings.minReplicas)) }}
{{- end }}
{{- end }}
{{- $named := dict }}
{{- range .Values.env }}
{{- $_ := set $named (upper .name) . }}
{{- end }}
{{- range $name, $key := dict "CRRMON_CONFIG" "existingConfigMap" "CRRMON_HTTP" "config.http" "CRRMON_HTTP__HOST" "config.http.host" "CRRMON_HTTP__PORT" "config.http.port" "CRRMON_LEDGER" "config.ledger" "CRRMON_LEDGER__KIND" "config.ledger.kind" "CRRMON_LEDGER__REDIS" "config.ledger.redis" "CRRMON_SHUTDOWN_SECONDS" "config.shutdown_seconds" }}
{{- if hasKey $named $name }}
{{- fail (printf "env sets %s, which the rest of the chart cannot see: set %s instead" $name $key) }}
{{- end }}
{{- end }}
{{- range $name, $remedy := dict "CRRMON_LEDGER__REDIS__PASSWORD" "name the Secret in ledgerPassword.existingSecret" "AWS_SECRET_ACCESS_KEY" "name the Secret in envFrom" "AWS_SESSION_TOKEN" "name the Secret in envFrom" }}
{{- if hasKey (get $named $name | default dict) "value" }}
{{- fail (printf "env sets %s to a plain value, which everybody can read: put it into a Secret and %s" $name $remedy) }}
{{- end }}
{{- end }}
{{- if dig "ledger" "redis" "password" "" $config }}
{{- fail "config.ledger.redis.password is set, and would appear in a ConfigMap: put it into a Secret and name the Secret in ledgerPassword.existingSecret" }}
{{- end }}
{{- $url := get $named "CRRMON_LEDGER__REDIS__URL" | default dict }}
{{- range $where, $text := dict "config.ledger.redis.url" (dig "ledger" "redis" "url" "" $config) "CRRMON_LEDGER__REDIS__URL in env" (get $url "value") }}
{{- if regexMatch "://.*:.*@" $text }}
{{- fail (printf "%s contains a password, which everybody can read: put it into a Secret and name the Secret in ledgerPassword.existingSecret" $where) }}
{{- end }}
{{- end }}
{{- $elsewhere := or .Values.existingConfigMap .Values.envFrom (hasKey $named "CRRMON_INBOXES") }}
{{- if not (or $config.queues $config.inboxes $elsewhere (hasKey $named "CRRMON_QUEUES")) }}
{{- fail "config.queues is empty, so there is nothing to read: set config.queues[0].url to the URL of an SQS queue, or config.inboxes for stores that post their events" }}
{{- end }}
{{- include "crrmon.checkInboxes" (dict "context" . "elsewhere" $elsewhere) }}
{{- if regexMatch "\"token\"\\s*:" ((get $named "CRRMON_INBOXES" | default dict).value | default "") }}
{{- fail "env sets CRRMON_INBOXES to a plain value with a token, which everybody can read: put it into a Secret and name the Secret in valueFrom, or put the token into one and name that in webhook.token.existingSecret" }}
{{- end }}
{{- if le (int (include "crrmon.port" .)) 0 }}
{{- fail "config.http.port is 0, but probes and scrapers need a known port: set it to one from 1 to 65535" }}
{{- end }}
{{- $host := dig "http" "host" "::" $config }}
{{- if include "crrmon.loopback" $host }}
{{- fail (printf "config.http.host is %s, where neither probes nor scrapers can reach the daemon: leave it out" $host) }}
{{- end }}
{{- $stop := dig "shutdown_seconds" 25 $config }}
{{- if le (float64 .Values.terminationGracePeriodSeconds) (float64 $stop) }}
{{- fail (printf "terminationGracePeriodSeconds is %v, but the daemon takes up to config.shutdown_seconds, %v, to return the messages it holds: set it higher than that" .Values.terminationGracePeriodSeconds $stop) }}
{{- end }}
{{- if and .Values.createTable.enabled (ne $kind "dynamodb") }}
{{- fail (printf "createTable.enabled is true, but config.ledger.kind is %s, which has no table: change one of the two" $kind) }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "serviceMonitor.enabled and podMonitor.enabled are both true, and everything would be counted twice: disable one of them" }}
{{- end }}
{{- with .Values.aws.caBundle }}
{{- if and .existingConfigMap .existingSecret }}
{{- fail "aws.caBundle.existingConfigMap and aws.caBundle.existingSecret are both set: set only one of them" }}
{{- end }}
{{- end }}
{{- include "crrmon.checkLedger" . }}
{{- end }}

{{- /* Takes the context, and whether the inboxes' tokens may be set where the chart cannot see them. */}}
{{- define "crrmon.checkInboxes" -}}
{{- $values := .context.Values }}
{{- $taken := list (include "crrmon.port" .context) }}
{{- range $place, $inbox := $values.config.inboxes }}
{{- $name := printf "config.inboxes[%d]" $place }}
{{- if .token }}
{{- fail (printf "%s.token is set, and would appear in a ConfigMap: put it into a Secret and name the Secret in webhook.token.existingSecret" $name) }}
{{- end }}
{{- if not (or .token_file $values.webhook.token.existingSecret $.elsewhere) }}
{{- fail (printf "%s has no token, so anybody who can reach its port could forge events: put one into a Secret and name the Secret in webhook.token.existingSecret" $name) }}
{{- end }}
{{- if include "crrmon.loopback" (.host | default "::") }}
{{- fail (printf "%s.host is %s, where no sender can reach the daemon: leave it out" $name .host) }}
{{- end }}
{{- if eq (dig "port" 9465 . | int) 0 }}
{{- fail (printf "%s.port is 0, but senders need a known port: set it to one from 1 to 65535" $name) }}
{{- end }}
{{- $port := include "crrmon.inboxPort" . }}
{{- if has $port $taken }}
{{- fail (printf "%s.port is %s, which another inbox or config.http already uses: choose a different port" $name $port) }}
{{- end }}
{{- $taken = append $taken $port }}
{{- end }}
{{- end }}

{{- /*
Helm creates the new workload before it deletes the old one, and a rolling update runs both kinds of pods: with two
ledgers on one queue, each counts the messages it gets, and neither knows what is pending in the other. So the ledger of
a release changes only while no replica runs. Without a cluster (`helm template`) there is nothing to look up.
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
{{- /* A ledger that is not shared is a different one in another namespace, whatever its name. */}}
{{- $moved := and (ne $namespace $here) (not (include "crrmon.shared" $)) }}
{{- if and $running (or $moved (ne $running $ledger)) $ours $same (gt (int .spec.replicas) 0) }}
{{- $keep := eq .metadata.name (include "crrmon.fullname" $) | ternary "leave its settings" "leave nameOverride and fullnameOverride" }}
{{- if $moved }}
{{- $keep = "leave namespaceOverride" }}
{{- end }}
{{- fail (printf "the %s %s runs with the ledger %q, and these values ask for %q, which knows no pending or counted objects: to keep the ledger, %s unchanged; to change it, upgrade with the previous values and replicaCount 0 (autoscaling.enabled and keda.enabled false), copy the pending objects as docs/install-eks.md in the repository describes under Upgrades, and then upgrade with these values" $kind .metadata.name $running $ledger $keep) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
