{{- define "ladle.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "ladle.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "ladle.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "ladle.selector" -}}
app.kubernetes.io/name: {{ include "ladle.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "ladle.podLabels" -}}
{{ include "ladle.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end -}}

{{- define "ladle.labels" -}}
{{ include "ladle.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{- define "ladle.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "ladle.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{- define "ladle.isTensorflowServing" -}}
{{- if eq .Values.server.kind "tensorflow-serving" }}true{{ end -}}
{{- end -}}

{{- define "ladle.serverImage" -}}
{{- $image := .Values.server.image -}}
{{- $name := ternary "ladle/tensorflow-serving" "ladle/server" (eq .Values.server.kind "tensorflow-serving") -}}
{{- printf "%s:%s" ($image.repository | default $name) ($image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* Whether the server itself reads the object store. */}}
{{- define "ladle.readsStore" -}}
{{- if and (eq .Values.models.source "objectStore") (not .Values.models.objectStore.download) }}true{{ end -}}
{{- end -}}

{{- define "ladle.hasConfig" -}}
{{- if or .Values.server.modelConfig (include "ladle.isTensorflowServing" .) }}true{{ end -}}
{{- end -}}

{{- define "ladle.modelsVolume" -}}
{{- $models := .Values.models -}}
{{- if eq $models.source "pvc" -}}
persistentVolumeClaim: {claimName: {{ include "ladle.fullname" . }}-models}
{{- else if eq $models.source "existingClaim" -}}
persistentVolumeClaim: {claimName: {{ $models.existingClaim }}}
{{- else if eq $models.source "hostPath" -}}
hostPath: {path: {{ $models.hostPath | quote }}, type: Directory}
{{- else -}}
emptyDir: {sizeLimit: {{ $models.objectStore.cacheSize }}}
{{- end -}}
{{- end -}}

{{- define "ladle.modelsMount" -}}
- name: models
  mountPath: /models
  readOnly: true
  {{- with .Values.models.subPath }}
  subPath: {{ . | quote }}
  {{- end }}
{{- end -}}

{{- define "ladle.topologySpread" -}}
{{- $selector := include "ladle.selector" . | fromYaml -}}
{{- $found := list -}}
{{- range .root.Values.topologySpread -}}
{{- $found = append $found (merge (dict "labelSelector" (dict "matchLabels" $selector)) .) -}}
{{- end -}}
{{- toYaml $found -}}
{{- end -}}

{{/* What the schema cannot say: one sentence, before anything is installed. */}}
{{- define "ladle.check" -}}
{{- $tfs := include "ladle.isTensorflowServing" . -}}
{{- $models := .Values.models -}}
{{- if and $tfs (include "ladle.readsStore" .) -}}
{{- fail "server.kind=tensorflow-serving reads no object store; set models.objectStore.download=true" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled $tfs (gt (int .Values.autoscaling.queueDepth) 0) -}}
{{- fail "autoscaling.queueDepth needs server.kind=embedded: TensorFlow Serving has no metric of its queue; set autoscaling.cpuUtilization" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (eq (int .Values.autoscaling.cpuUtilization) 0) (eq (int .Values.autoscaling.queueDepth) 0) -}}
{{- fail "autoscaling.enabled needs autoscaling.cpuUtilization or autoscaling.queueDepth above 0" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.cpuUtilization) 0) (not (dig "requests" "cpu" "" .Values.server.resources)) -}}
{{- fail "autoscaling.cpuUtilization is a percentage of server.resources.requests.cpu, which is missing" -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (lt (int .Values.autoscaling.maxReplicas) (int .Values.autoscaling.minReplicas)) -}}
{{- fail (printf "got autoscaling.minReplicas=%d above autoscaling.maxReplicas=%d" (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) -}}
{{- end -}}
{{- if and (include "ladle.readsStore" .) .Values.server.modelConfig -}}
{{- fail "server.modelConfig and models.objectStore.url both name the models; name the store in modelConfig's base_path, with another models.source" -}}
{{- end -}}
{{- end -}}
