"""The command lines: they read arguments, call the rooms below, and print. No other room imports them."""
