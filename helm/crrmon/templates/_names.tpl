{{- /*
Names and labels.

A name is cut to 52 characters: with what Kubernetes appends to a StatefulSet's name, it must fit into a label of 63.
*/}}

{{- define "crrmon.name" -}}
{{- .Values.nameOverride | default .Chart.Name | replace "." "-" | trunc 48 | trimSuffix "-" }}
{{- end }}

{{- define "crrmon.fullname" -}}
{{- $full := .Values.fullnameOverride }}
{{- if not $full }}
{{- $name := .Values.nameOverride | default .Chart.Name }}
{{- $full = contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- end }}
{{- $full | replace "." "-" | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "crrmon.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace }}
{{- end }}

{{- define "crrmon.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (.Values.serviceAccount.create | ternary (include "crrmon.fullname" .) "default") }}
{{- end }}

{{- /* Must never change: workloads cannot change their selectors. */}}
{{- define "crrmon.selectorLabels" -}}
app.kubernetes.io/name: {{ include "crrmon.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "crrmon.labels" -}}
{{- $own := include "crrmon.selectorLabels" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_") }}
{{- $_ := set $own "app.kubernetes.io/managed-by" .Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") }}
{{- merge $own (.Values.commonLabels | default dict) | toYaml }}
{{- end }}

{{- /*
Labels of pods that are not the daemon's. They must not have its name, or the service, the budget and the policy would
treat them as replicas. Takes the context and a suffix of the name.
*/}}
{{- define "crrmon.otherPodLabels" -}}
{{- $own := include "crrmon.labels" .context | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/name" (printf "%s-%s" (include "crrmon.name" .context) .suffix) }}
{{- $own | toYaml }}
{{- end }}

{{- /* Annotations as YAML, with the templates in their values rendered. Takes the context and a list of mappings; later ones override earlier ones. */}}
{{- define "crrmon.annotations" -}}
{{- $filled := dict }}
{{- range .given }}
{{- range $name, $value := . }}
{{- $_ := set $filled $name (tpl $value $.context) }}
{{- end }}
{{- end }}
{{- if $filled }}
{{- toYaml $filled }}
{{- end }}
{{- end }}

{{- /* The metadata of every object. Takes the context, and optionally name or suffix, namespace, labels and annotations. */}}
{{- define "crrmon.metadata" -}}
{{- with .context -}}
name: {{ printf "%s%s" ($.name | default (include "crrmon.fullname" .)) ($.suffix | empty | ternary "" (printf "-%s" $.suffix)) | quote }}
namespace: {{ $.namespace | default (include "crrmon.namespace" .) | quote }}
labels:
  {{- mergeOverwrite (include "crrmon.labels" . | fromYaml) ($.labels | default dict) | toYaml | nindent 2 }}
{{- with include "crrmon.annotations" (dict "context" . "given" (list .Values.commonAnnotations $.annotations)) }}
annotations:
  {{- . | nindent 2 }}
{{- end }}
{{- end }}
{{- end }}
