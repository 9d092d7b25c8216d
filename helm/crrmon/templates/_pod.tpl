{{- /* Variables that the chart sets, except those that `env` sets itself: a name may be listed only once. */}}
{{- define "crrmon.env" -}}
{{- $own := dict "CRRMON_CONFIG" "/etc/crrmon/crrmon.yaml" }}
{{- /* The image sets these two, and the environment overrides the file. */}}
{{- $_ := set $own "CRRMON_HTTP__HOST" (dig "http" "host" "::" .Values.config) }}
{{- $_ := set $own "CRRMON_HTTP__PORT" (include "crrmon.port" .) }}
{{- if .Values.ledgerPassword.existingSecret }}
{{- $_ := set $own "CRRMON_LEDGER__REDIS__PASSWORD_FILE" "/etc/crrmon-ledger/password" }}
{{- end }}
{{- with .Values.aws }}
{{- if .region }}
{{- $_ := set $own "AWS_REGION" .region }}
{{- $_ := set $own "AWS_DEFAULT_REGION" .region }}
{{- end }}
{{- if .stsRegionalEndpoints }}
{{- $_ := set $own "AWS_STS_REGIONAL_ENDPOINTS" .stsRegionalEndpoints }}
{{- end }}
{{- if or .caBundle.existingConfigMap .caBundle.existingSecret }}
{{- $_ := set $own "AWS_CA_BUNDLE" "/etc/crrmon-ca/ca.crt" }}
{{- end }}
{{- end }}
{{- range .Values.env }}
{{- $_ := unset $own .name }}
{{- end }}
{{- range $name, $value := $own }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- with .Values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "crrmon.volumeMounts" -}}
- name: config
  mountPath: /etc/crrmon
  readOnly: true
- name: ledger
  mountPath: /data
{{- if .Values.ledgerPassword.existingSecret }}
- name: ledger-password
  mountPath: /etc/crrmon-ledger
  readOnly: true
{{- end }}
{{- if or .Values.aws.caBundle.existingConfigMap .Values.aws.caBundle.existingSecret }}
- name: ca-bundle
  mountPath: /etc/crrmon-ca
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* All volumes except the ledger's. */}}
{{- define "crrmon.volumes" -}}
- name: config
  configMap:
    name: {{ include "crrmon.configMapName" . | quote }}
{{- with .Values.ledgerPassword }}
{{- if .existingSecret }}
- name: ledger-password
  secret:
    secretName: {{ .existingSecret | quote }}
    defaultMode: 0440
    items:
      - key: {{ .key | quote }}
        path: password
{{- end }}
{{- end }}
{{- with .Values.aws.caBundle }}
{{- if .existingSecret }}
- name: ca-bundle
  secret:
    secretName: {{ .existingSecret | quote }}
    items:
      - key: {{ .key | quote }}
        path: ca.crt
{{- else if .existingConfigMap }}
- name: ca-bundle
  configMap:
    name: {{ .existingConfigMap | quote }}
    items:
      - key: {{ .key | quote }}
        path: ca.crt
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Only replicas need these, because they listen. A Secret is mounted as a whole: a part of it would not be updated. */}}
{{- define "crrmon.webhookMounts" -}}
{{- if and .Values.config.inboxes .Values.webhook.token.existingSecret }}
- name: webhook-token
  mountPath: /etc/crrmon-webhook
  readOnly: true
{{- end }}
{{- if and .Values.config.inboxes .Values.webhook.tls.existingSecret }}
- name: webhook-tls
  mountPath: /etc/crrmon-webhook-tls
  readOnly: true
{{- end }}
{{- end }}

{{- define "crrmon.webhookVolumes" -}}
{{- with .Values.webhook }}
{{- if and $.Values.config.inboxes .token.existingSecret }}
- name: webhook-token
  secret:
    secretName: {{ .token.existingSecret | quote }}
    defaultMode: 0440
    items:
      - key: {{ .token.key | quote }}
        path: token
{{- end }}
{{- if and $.Values.config.inboxes .tls.existingSecret }}
- name: webhook-tls
  secret:
    secretName: {{ .tls.existingSecret | quote }}
    defaultMode: 0440
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end }}
{{- end }}
{{- end }}

{{- /* Where the pods run, and under which identity: the same for replicas, Job and test. */}}
{{- define "crrmon.placement" -}}
{{- /* Kubernetes would set CRRMON_... variables for services of that name, and the daemon refuses unknown settings. */}}
enableServiceLinks: false
automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
{{- range $key := list "priorityClassName" "schedulerName" "dnsPolicy" }}
{{- with index $.Values $key }}
{{ $key }}: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- range $key := list "imagePullSecrets" "nodeSelector" "tolerations" "dnsConfig" "hostAliases" }}
{{- with index $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Spread over zones and nodes by default. A constraint without a selector gets that of the replicas. */}}
{{- define "crrmon.spread" -}}
{{- $constraints := .Values.topologySpreadConstraints }}
{{- if not $constraints }}
{{- $constraints = list }}
{{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
{{- $constraints = append $constraints (dict "maxSkew" 1 "topologyKey" . "whenUnsatisfiable" "ScheduleAnyway") }}
{{- end }}
{{- end }}
{{- range $constraints }}
{{- $own := dict "labelSelector" (dict "matchLabels" (include "crrmon.selectorLabels" $ | fromYaml)) }}
{{ list (merge (deepCopy .) $own) | toYaml }}
{{- end }}
{{- end }}

{{- define "crrmon.podAnnotations" -}}
{{- $own := dict }}
{{- if not .Values.existingConfigMap }}
{{- $_ := set $own "checksum/config" (include "crrmon.config" . | sha256sum) }}
{{- end }}
{{- if .Values.datadog.enabled }}
{{- $check := .Files.Get "files/datadog.json" | replace ":9464/" (printf ":%s/" (include "crrmon.port" .)) | fromJson }}
{{- $instance := first $check.openmetrics.instances }}
{{- $_ := set $check.openmetrics "instances" (list (mergeOverwrite $instance (.Values.datadog.instance | default dict))) }}
{{- $_ := set $own "ad.datadoghq.com/crrmon.checks" (toPrettyJson $check) }}
{{- $_ := set $own "ad.datadoghq.com/crrmon.logs" (list (dict "source" "crrmon" "service" "crrmon") | toJson) }}
{{- end }}
{{- $theirs := include "crrmon.annotations" (dict "context" . "given" (list .Values.commonAnnotations .Values.podAnnotations)) }}
{{- mergeOverwrite $own (fromYaml $theirs) | toYaml }}
{{- end }}

{{- /* The labels by which Datadog distinguishes services, versions and environments, in metrics, logs and events alike. */}}
{{- define "crrmon.podLabels" -}}
{{- $labels := include "crrmon.labels" . | fromYaml }}
{{- $own := dict }}
{{- if .Values.datadog.enabled }}
{{- $_ := set $own "tags.datadoghq.com/service" "crrmon" }}
{{- $_ := set $own "tags.datadoghq.com/version" (get $labels "app.kubernetes.io/version") }}
{{- with .Values.datadog.env }}
{{- $_ := set $own "tags.datadoghq.com/env" . }}
{{- end }}
{{- end }}
{{- mergeOverwrite $own (deepCopy (.Values.podLabels | default dict)) $labels | toYaml }}
{{- end }}

{{- /* The pod of a replica; the volume of the ledger is added by the workload. */}}
{{- define "crrmon.pod" -}}
metadata:
  labels:
    {{- include "crrmon.podLabels" . | nindent 4 }}
  annotations:
    {{- include "crrmon.podAnnotations" . | nindent 4 }}
spec:
  serviceAccountName: {{ include "crrmon.serviceAccountName" . | quote }}
  {{- include "crrmon.placement" . | trim | nindent 2 }}
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds | int }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if or .Values.topologySpreadConstraints (include "crrmon.shared" .) }}
  topologySpreadConstraints:
    {{- include "crrmon.spread" . | trim | nindent 4 }}
  {{- end }}
  {{- with .Values.initContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: crrmon
      image: {{ include "crrmon.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      {{- with .Values.extraArgs }}
      {{- /* They also replace the image's own command. */}}
      args:
        {{- prepend . "run" | toYaml | nindent 8 }}
      {{- end }}
      env:
        {{- include "crrmon.env" . | trim | nindent 8 }}
      {{- with .Values.envFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: http
          containerPort: {{ include "crrmon.port" . }}
          protocol: TCP
        {{- range .Values.config.inboxes }}
        - name: {{ include "crrmon.inboxPortName" . }}
          containerPort: {{ include "crrmon.inboxPort" . }}
          protocol: TCP
        {{- end }}
      {{- range $probe, $path := dict "startupProbe" "/livez" "livenessProbe" "/livez" "readinessProbe" "/readyz" }}
      {{- with index $.Values $probe }}
      {{ $probe }}:
        {{- if not (or .exec .httpGet .tcpSocket .grpc) }}
        httpGet:
          path: {{ $path }}
          port: http
        {{- end }}
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- with .Values.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- include "crrmon.volumeMounts" . | nindent 8 }}
        {{- include "crrmon.webhookMounts" . | nindent 8 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "crrmon.volumes" . | nindent 4 }}
    {{- include "crrmon.webhookVolumes" . | nindent 4 }}
{{- end }}
