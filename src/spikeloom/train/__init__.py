"""Training: recipes, the loop, evaluation, run folders, comparisons."""
