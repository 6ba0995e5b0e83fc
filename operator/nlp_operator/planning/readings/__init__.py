"""What pods say of their models' load, turned into samples for the scaling brain.

* `latency`: histograms of latency: differences, sums, quantiles
* `counters`: what one pod has counted of one model, and what was added between two readings
* `page`: a pod's page of metrics as counters
* `queries`: the same counters out of Prometheus' answers
* `totals`: the counters of all pods of a model as one sample; what cannot be trusted is left out
* `advice`: what the status says of it

Every module is pure: text and numbers in, values out, and the clock is an argument. What may be believed of
a sample is decided in `planning/scaling/signals.py`, for every way of getting one.
"""
