"""Which samples are worth labeling: plan, supply of arrays, scores, shortlists, selection. Imports models and below."""
