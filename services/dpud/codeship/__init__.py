"""Code shipping: trees of source files by content, checked as if they came from an enemy."""
