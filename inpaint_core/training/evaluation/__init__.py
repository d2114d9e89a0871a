"""The results table: fills of held-out photographs by trained networks and by methods that need no training."""
