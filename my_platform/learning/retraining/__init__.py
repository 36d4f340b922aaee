"""When a model is fitted again: a policy, the facts that it is held against, and its verdict. Pure."""
