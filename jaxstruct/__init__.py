"""Structured prediction and structure discovery for images, in JAX and Flax."""

from jaxstruct.interrupts import end_on_interrupt

__version__ = "0.1.0"

end_on_interrupt(__name__)
