"""flask-ws beside its peers: `python -m benchmarks`."""
