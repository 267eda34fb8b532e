"""Print which tests have failed in a run of pytest, given its cache folder."""

import json
import re
import sys
from pathlib import Path

for test in json.loads(Path(sys.argv[1], "v/cache/lastfailed").read_text()):
    # pytest-xdist adds the group.
    print(re.sub(r"@[^\]]*$", "", test))
