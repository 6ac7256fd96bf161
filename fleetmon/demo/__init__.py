"""The demonstration: agents that do real work on real files, supervised like any other fleet."""
