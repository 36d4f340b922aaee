"""Fitted models as ONNX: one input, one output, the same decisions as the model they were made of.

Every exported model has the input `features` (rows × features, float64, NaN where missing, in the model's order) and
the output `probability` (rows, float64). The numbers that tree thresholds and quantiles are compared with stay in
double precision, so that no row goes down another branch than in the model itself.
"""
