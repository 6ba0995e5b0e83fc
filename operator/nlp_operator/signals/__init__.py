"""What running models' load, latency, failures and queues are, as samples for the scaling brain.

* `measured`: what is known of every model's pods; the one place that others ask
* `scraper`: fills it by asking our own pods
* `prometheus`: fills it from Prometheus

What the answers mean is decided in `planning/readings`.
"""
