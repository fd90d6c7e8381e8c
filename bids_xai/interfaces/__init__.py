"""nipype interfaces: load files, call one pure function, save.

nipype asks a server for its newest version when an interface is made, unless this variable is set: nobody who
uses these interfaces asks.
"""

import os

os.environ.setdefault("NIPYPE_NO_ET", "1")
