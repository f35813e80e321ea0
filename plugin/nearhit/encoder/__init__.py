"""Turn a question into a vector: the seam that the rest of nearhit sees.

`artefact.ensure_artefact` builds the served files once and `runtime.OnnxEncoder` runs them;
both are imported from their own module, so that importing this package loads nothing but numpy.
"""

from nearhit.encoder.base import Encoder, Encoding, Reason, Unencodable, Vector

__all__ = ["Encoder", "Encoding", "Reason", "Unencodable", "Vector"]
