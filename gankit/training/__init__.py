"""Training: losses, recipes, data sets and the one loop that they share. Needs ``gankit[train]``."""
