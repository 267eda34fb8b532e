from __future__ import annotations

import importlib
import json
import sys

from benchmarks.loads import Target


def main() -> None:
    name, options = sys.argv[1], json.loads(sys.argv[2])
    target = Target(options.pop("port"), options.pop("path"), options.pop("pid"))
    module = importlib.import_module(f"{__package__}.{name}")
    json.dump(module.run(target, **options), sys.stdout)


main()
