"""Model families: a builder each, and the layers they share.

A new family is a builder in a file of its own and a line in `model.FAMILIES`. Models know neither
requests nor batches, nor what computes them.
"""

from headway.models.model import FAMILIES, Backbone, Model, load_model

__all__ = ["FAMILIES", "Backbone", "Model", "load_model"]
