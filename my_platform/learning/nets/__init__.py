"""Nets for tables: TabM, its fitted input transforms, training on one device or several, and its files.

The modules here import torch and numpy and nothing else that is not in Python, so that they run on a bare GPU
machine; functions elsewhere import them where they need them.
"""
