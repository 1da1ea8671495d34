"""The checker of the robustness suite: no fault in a true history, and each kind in a false one.

Each test tells a true story, makes one thing of it untrue, and expects to be told of just that.
"""

import pytest

from tests.robustness.story import Story


@pytest.fixture
def story() -> Story:
    """Two workers, and two tasks that are ready."""
    told = Story()
    told.connect("ann")
    told.connect("bob")
    told.create("t1")
    told.create("t2")
    return told
