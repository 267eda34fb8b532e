"""The same few routes, written for each contender."""
