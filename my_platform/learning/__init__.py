"""Learning: fitting models, and measuring and drawing how well they rank and price risk.

Pure functions, frames in and values out. LightGBM and scikit-learn are imported where they are used.
"""
