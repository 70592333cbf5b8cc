"""Tasks: what is learned, and how answers are judged."""
