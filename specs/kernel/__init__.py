"""What every spec stands on: exhaustive search, trace acceptance, negative controls."""
