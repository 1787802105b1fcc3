"""One evaluation loop for every task, and the report of a run."""
