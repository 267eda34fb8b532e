"""Count the tests that failed in a run of pytest, given its cache folder; --lf finds them then."""

import json
import re
import sys
from pathlib import Path

path = Path(sys.argv[1], "v/cache/lastfailed")
# pytest-xdist adds the group.
failed = {re.sub(r"@[^\]]*$", "", test): True for test in json.loads(path.read_text())}
path.write_text(json.dumps(failed))
print(len(failed))
