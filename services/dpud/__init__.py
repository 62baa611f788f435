"""The services of the DPU: `python -m dpud SERVICE`."""
