"""Hundreds of models of both kinds over mixed pools, on a real API server."""
