"""The only room that talks to our own server pods."""
