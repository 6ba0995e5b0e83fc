"""A real Kubernetes on a bare machine, for the demo, the tests and `nlpctl cluster`.

No docker daemon, no image registry and nothing downloaded but packages of the registries this machine is
configured for. `docs/local-cluster.md` says how it is put together and how to use it.
"""
