"""Operating-system concerns of a process: output, signals, children, metrics."""
