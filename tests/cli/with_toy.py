"""The command line with the tests' small encoder: ``python with_toy.py index ...``."""

import importlib.util
import os
import time
from pathlib import Path

spec = importlib.util.spec_from_file_location("toy", Path(__file__).parents[1] / "conftest.py")
toy = importlib.util.module_from_spec(spec)
spec.loader.exec_module(toy)
encode = toy.Toy.encode_documents


def slowly(self, texts):
    time.sleep(float(os.environ.get("TEST_SECONDS_A_BATCH", "0")))
    return encode(self, texts)


toy.Toy.encode_documents = slowly

if __name__ == "__main__":
    from tokret.cli import main

    main()
