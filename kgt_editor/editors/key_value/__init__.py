"""Editors that read an MLP's down-projection as a memory of keys and values and insert pairs into it."""
