"""The store when it is a bucket: its address and the few things done with its objects.

The one package that the builders and the agent share, so it knows neither Jobs nor models. What lies where in
a store is in docs/store.md.
"""
