"""Check what a wheel holds: tokret alone, its compiled kernels, its model and its sample.

python scripts/check_wheel.py dist/tokret-*.whl
"""

import sys
import zipfile

WANTED = (
    "tokret/kernels/_native",
    "tokret/encoders/mini_data/model.onnx",
    "tokret/collections/sample/corpus.jsonl.gz",
    "tokret/py.typed",
    ".dist-info/licenses/NOTICE",
    ".dist-info/licenses/LICENSE",
)

names = zipfile.ZipFile(sys.argv[1]).namelist()
top = {name.split("/")[0] for name in names}
missing = [part for part in WANTED if not any(part in name for name in names)]
foreign = sorted(t for t in top if t != "tokret" and not t.endswith(".dist-info"))
if missing or foreign:
    sys.exit(f"{sys.argv[1]}: lacks {missing}, and installs {foreign} beside tokret.")
print(f"{sys.argv[1].rsplit('/', 1)[-1]}: {len(names)} files, tokret alone")
