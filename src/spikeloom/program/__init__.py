"""What is to be run, as values (recipes, stages), and the live objects made from them."""
