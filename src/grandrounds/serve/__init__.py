"""Serves policies over HTTP in the shape of OpenAI's API, and a page to try them."""
