"""From network outputs to answers, for tasks, evaluation and inference alike."""
