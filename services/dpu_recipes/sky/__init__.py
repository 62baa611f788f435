"""Positions on the sky: arrays in, arrays out. Nothing here knows files, frames or the archive."""
