"""Training of one configuration: `fit`, the range test that finds a learning rate, and the throughput of a worker."""
