"""What recipes of one family share: options, and how a run is set up. Nothing here imports torch at its top."""
