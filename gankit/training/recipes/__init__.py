"""One recipe per file: the networks, losses and optimisers of a paper, for the one loop."""
