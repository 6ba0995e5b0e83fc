"""nlpctl: ask a model, and ask why it is where it is. Also runs as `kubectl nlp`.

The command line decides nothing that the operator decides: explanations come from the status, the events
and the very planning code that the operator runs. It holds no state.
"""
