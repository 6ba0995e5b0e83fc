"""Generic controller machinery: queue, workers, caches, informers, lease, events. Knows no NLPModel."""
