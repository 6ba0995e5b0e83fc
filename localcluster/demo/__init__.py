"""`make demo`: from nothing to a right answer on a real Kubernetes, by the commands a user has.

The demo applies manifests with kubectl and asks with nlpctl; it knows nothing of the operator's
inside. What it watches (the audit log, the process table) it watches from outside.
"""
