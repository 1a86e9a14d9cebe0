"""The GPU kernels: in Triton's interpreter, or on a GPU with TRITON_INTERPRET=0."""

import pytest

from tokret.errors import ResourceError


@pytest.fixture(scope="session")
def gpu():
    module = pytest.importorskip("tokret.kernels.gpu", exc_type=ImportError)
    try:
        module.choose()
    except ResourceError as error:
        pytest.skip(str(error))
    return module
