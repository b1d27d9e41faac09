"""Jobs -> which run next. Pure: no clock, no I/O, no tensors."""
