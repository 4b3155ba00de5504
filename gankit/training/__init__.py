"""Training: losses, systems, recipes and the one loop that they share. Needs ``gankit[train]``."""
