"""What a run knows from before it began, and what it leaves for those after it."""
