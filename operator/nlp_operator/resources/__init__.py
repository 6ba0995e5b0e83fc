"""Pure builders of Kubernetes objects, one file a kind."""
