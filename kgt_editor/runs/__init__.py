"""A comparison from the request to the run's folder: its cells, the processes that run them, and what is shown."""
