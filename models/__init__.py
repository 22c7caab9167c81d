"""How to learn a distribution: one file per generative model, torch and pydantic only."""
