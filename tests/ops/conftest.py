"""What the tests of the ops share."""

import jax
import pytest


@pytest.fixture
def on_accelerator(monkeypatch):
    """`on_accelerator(*forms)`: cached or jitted, they take the branch that a CPU never takes."""
    cached = []

    def switch(*forms):
        for form in forms:
            cached.append(getattr(form, "cache_clear", None) or form.clear_cache)
            cached[-1]()
        choose = lambda *args, cpu, default: default(*args)
        monkeypatch.setattr(jax.lax, "platform_dependent", choose)

    yield switch
    for clear in cached:
        clear()
