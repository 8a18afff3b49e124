"""Plans: what people write, how it is checked, and the compiled form that workers execute."""
