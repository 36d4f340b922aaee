"""What is wrong with a home and what to do about it; nothing is changed.

Each check looks at one thing, opens for itself what it needs, and may fail without keeping the others from looking.
"""
