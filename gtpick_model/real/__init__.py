"""Real micrographs in training: read once, seen anew in many ways, as labelled crops, negatives and backgrounds."""
