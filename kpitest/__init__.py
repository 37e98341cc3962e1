"""KPIs tried out without a cluster: events in, rows out, through the real dataflow, in virtual time.

`make test-kpi` runs a file of events; in pytest the fixture `kpi` (see plugin.py) is a Driver.
"""

from kpitest.driver import Driver
from kpitest.errors import WrongEventError

__all__ = ["Driver", "WrongEventError"]
