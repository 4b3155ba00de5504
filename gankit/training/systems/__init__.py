"""The networks, losses and optimisers of the papers, each as a :class:`gankit.training.system.System` for the loop."""
