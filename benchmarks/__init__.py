"""Programs that measure the figures the project promises, each beside its reference in the same run."""
