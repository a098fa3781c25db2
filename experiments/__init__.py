"""One file per experiment: its configuration, model, loss, data and figures; no mechanism.

What may be added: an experiment, which is one file; what a family of them shares stands in a module
with a leading underscore. Experiments do not import each other.
"""

from jaxstruct.interrupts import end_on_interrupt

end_on_interrupt(__name__)
