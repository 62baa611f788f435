"""What is done to the pixels of one CCD: arrays in, arrays out, no files, no archive.

Every array is in (y, x) order, every level and noise in ADU.
"""
