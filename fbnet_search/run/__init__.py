"""Common machinery of searches and trainings: recipes, epochs, checkpoints, events, processes."""
