// Flux's sources. Only the definitions of its kinds are read from it: nothing of it is compiled, and `go mod tidy` would
// drop it, so do not run that here.
module nlp-operator.io/localcluster/flux-sources

go 1.26.0

require github.com/fluxcd/source-controller v1.9.6
