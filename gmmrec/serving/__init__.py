"""From a trained model to lists in the user's own ids."""
