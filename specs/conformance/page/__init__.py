"""One self-contained page: rows are cases, columns servers, a cell opens its transcript."""
