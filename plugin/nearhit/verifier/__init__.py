"""The verifier: a cross-encoder that reads two questions together and says how sure it is.

weights      what ships: small changes to the encoder's base, and a head
graph        those as one ONNX graph
calibration  from a logit to a probability, and to a threshold for a promised precision
runtime      many requests, one worker thread
"""
