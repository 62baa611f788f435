"""The log aggregator: what tasks printed, durable, in order, and honest about what is missing."""
