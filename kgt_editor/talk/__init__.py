"""A person talks to a language model, which remembers what it is told."""
