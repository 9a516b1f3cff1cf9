"""What a process asks of the system: output, signals, children, metrics."""
