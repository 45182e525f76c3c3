"""A language model as judge, over an OpenAI-compatible endpoint: which criteria of a rubric does a response meet?"""
