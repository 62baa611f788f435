"""The queue page: what the DPU does, in a browser."""
