"""Make the demo series: the sea's temperature off Peru by month, 1950 to 2010, where El Nino shows.

The figures are those of the Nino 1+2 region (0 to 10 degrees south, 80 to 90 degrees west) in ERSST v3b, by the
National Weather Service of the United States' NOAA, http://www.cpc.ncep.noaa.gov/data/indices/: a work of the United
States' government and in the public domain. They are taken from the table that statsmodels packages as `elnino.csv`, a
row for each year, and states to be public domain. Run, once, by whoever changes the set:

    python -m zoo.data.make_demo_series statsmodels/datasets/elnino/elnino.csv
"""

import csv
import hashlib
import os
import sys
from pathlib import Path

from zoo.data.series import DEMO
from zoo.errors import DataError

SHA256 = "b647be00e0fd264be9764e317e6b963f35030014ecca2b21b204521716e463ad"  # of elnino.csv in statsmodels 0.15.0


def make(source, path=DEMO):
    """Write the table of years and months as one row for each month.

    Args:
        source: Path of `elnino.csv`.
        path: Path to write.

    Raises:
        DataError: the source is not the file that was described.
    """
    data = Path(source).read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise DataError(f"{source}: is not the elnino.csv of statsmodels 0.15.0, expected sha256 {SHA256}.")
    _, *years = csv.reader(data.decode().splitlines())
    rows = [
        f"{year}-{month:02},{float(value):g}" for year, *values in years for month, value in enumerate(values, start=1)
    ]
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text("\n".join(["month,celsius", *rows]) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
