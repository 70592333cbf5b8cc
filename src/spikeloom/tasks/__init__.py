"""Tasks: what is learned (classes or numbers), and the metrics of a net's answers."""
