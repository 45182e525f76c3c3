"""A run's policy for use elsewhere: adapter, merged model or GGUF, each reloaded and compared before it counts."""
