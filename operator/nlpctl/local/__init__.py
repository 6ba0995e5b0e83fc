"""Without a cluster: an NLPModel's manifest built and served on this machine.

The same programs do the work: the builders as processes, the agent with Triton and Envoy. This package stands
where the operator stands: it reads the manifest by the operator's code and writes the very requests and the
server configuration that the operator would write.
"""
