{{- /* What names begin with: the release's, with "nlp-operator" in it once. */ -}}
{{- define "nlp-operator.fullname" -}}
{{- if contains "nlp-operator" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-nlp-operator" (.Release.Name | trunc 27 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}
