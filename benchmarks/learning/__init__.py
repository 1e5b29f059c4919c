"""What each strategy is worth on real data: simulated labeling, learning curves, honest statistics."""
