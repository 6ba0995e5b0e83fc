"""The agent: process 1 of a serving container.

It runs Triton on loopback and Envoy in front of it, and keeps the loaded models equal to `server.json`, for
ever, without an API token and without the operator. It never decides what should be served: that is written
in the file.
"""
