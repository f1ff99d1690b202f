"""What searches and trainings share: recipes, epochs, checkpoints, events, several processes."""
