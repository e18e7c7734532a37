"""What a run recalls from earlier runs, and what it leaves for later ones."""
