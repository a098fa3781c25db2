"""What the tests of the ops share."""

import jax
import pytest


@pytest.fixture
def on_accelerator(monkeypatch):
    """`on_accelerator(form)`: the cached form takes the branch that a CPU never takes."""
    cached = []

    def switch(form):
        cached.append(form)
        form.cache_clear()
        choose = lambda *args, cpu, default: default(*args)
        monkeypatch.setattr(jax.lax, "platform_dependent", choose)

    yield switch
    for form in cached:
        form.cache_clear()
