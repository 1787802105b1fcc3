"""One flat file for each task: where model, loss, metric and batch meet."""
