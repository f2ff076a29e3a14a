"""Published figures: one recipe in one world with one budget and one seed, measured; who judges, and what is kept."""
