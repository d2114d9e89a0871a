"""The tables of RESULTS.md, from trainings to text: `python -m tools.results`, `make results`."""
