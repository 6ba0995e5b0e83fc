"""The API as the operator sees it: names, the typed spec and status, conditions."""
