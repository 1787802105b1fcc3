"""The command line: a thin shell over functions, and the only place that reads arguments."""
