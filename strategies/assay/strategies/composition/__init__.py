"""How a plan combines strategies: scores into one utility, utility into picks, picks within quotas and apart."""
