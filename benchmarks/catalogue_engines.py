"""The catalogue's rows on the disk, by its own sorted sequences and by DuckDB: `python benchmarks/catalogue_engines.py`.

Both take rows like those of a listing, 10,000 at a time, give them back in key order, and compare them with as many
others: once in key order, as AWS and local folders list, and once in random order, as other stores may. Each case has a
process of its own. As JSON: seconds, CPU seconds (of use where the machine is busy), peak memory beyond that of the
imports, or the error. The project uses DuckDB for the report and the review (`removal/catalogue/database.py`), and sorted
sequences for listing and planning (`removal/catalogue/sorted_rows.py`).
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa

SCHEMA = pa.schema([pa.field("key", pa.string()), pa.field("size", pa.int64()), pa.field("etag", pa.string())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--limits", type=int, nargs="+", default=[100, 200, 400], help="DuckDB's memory_limit in MB")
    parser.add_argument("--threads", type=int, default=2, help="DuckDB's threads")
    parser.add_argument("--seconds", type=float, default=300, help="after which a case is given up")
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        rows, order, limit, threads = arguments.case
        print(json.dumps(measured(int(rows), order, int(limit), int(threads))))
        return
    results = []
    for rows in arguments.rows:
        for order in ("key order", "random order"):
            for limit in (0, *arguments.limits):
                case = [str(rows), order, str(limit), str(arguments.threads)]
                result = {
                    "rows": rows,
                    "order": order,
                    "engine": f"DuckDB, {limit} MB" if limit else "sorted sequences",
                }
                result |= run(case, arguments.seconds)
                results.append(result)
                print(result, flush=True)
                arguments.to.write_text(json.dumps(results, indent=1) + "\n")


def run(case: list[str], seconds: float) -> dict[str, object]:
    command = [sys.executable, __file__, "--case", *case]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=True)
    except subprocess.TimeoutExpired:
        return {"error": f"given up after {seconds:g} s"}
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if "Error" in line]
        return {"error": lines[-1] if lines else error.stderr[-200:]}
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


def measured(rows: int, order: str, limit: int, threads: int) -> dict[str, float]:
    for module in ("pandas", "inpaint_core.removal.catalogue.sorted_rows"):  # pyarrow imports pandas at its first use
        importlib.import_module(module)
    stages = duckdb_stages(rows, order, limit, threads) if limit else sorted_stages(rows, order)
    before = peak_mb()
    result: dict[str, float] = {}
    for name, stage in (("make", lambda: sum(map(len, tables(rows, order)))), *stages):
        start, cpu = time.perf_counter(), time.process_time()
        assert stage() == rows, name
        result[f"{name}_seconds"] = round(time.perf_counter() - start, 2)
        result[f"{name}_cpu_seconds"] = round(time.process_time() - cpu, 2)
        result[f"{name}_memory_mb"] = peak_mb() - before
    return result


def tables(rows: int, order: str) -> Iterator[pa.Table]:
    """Keys of 60 characters and ETags that look as random as real ones."""
    for start in range(0, rows, 10_000):
        numbers = range(start, start + 10_000)
        places = [number * 7919 % rows if order == "random order" else number for number in numbers]
        keys = [f"2020/{place // 1000:06}/{'IMG_' * 9}{place:012}" for place in places]
        etags = [f"{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}" for number in numbers]
        yield pa.table([keys, list(numbers), etags], schema=SCHEMA)


def sorted_stages(rows: int, order: str) -> list[tuple[str, Callable[[], int]]]:
    from inpaint_core.removal.catalogue.sorted_rows import Cursor, SortedRows

    images, others = SortedRows(SCHEMA), SortedRows(SCHEMA)

    def load() -> int:
        for taken in (images, others):
            for table in tables(rows, order):
                taken.add(table)
        return len(images)

    def join() -> int:
        cursor = Cursor(others, SCHEMA)
        return sum(len(cursor.matching(part["key"])) for part in images)

    return [("load", load), ("read", lambda: sum(map(len, images))), ("join", join)]


def duckdb_stages(rows: int, order: str, limit: int, threads: int) -> list[tuple[str, Callable[[], int]]]:
    import duckdb

    folder = tempfile.TemporaryDirectory()
    connection = duckdb.connect(
        f"{folder.name}/rows.duckdb",
        config={
            "memory_limit": f"{limit}MB",
            "threads": threads,
            "temp_directory": f"{folder.name}/spilled",
            "preserve_insertion_order": False,  # less memory: the order of insertion is of no use here
        },
    )

    def load() -> int:
        assert folder
        for name in ("images", "others"):
            batches = (batch for table in tables(rows, order) for batch in table.to_batches())
            connection.register("incoming", pa.RecordBatchReader.from_batches(SCHEMA, batches))
            connection.execute(f"CREATE TABLE {name} AS SELECT * FROM incoming")
        return count("SELECT count(*) FROM images")

    def read() -> int:
        return sum(map(len, connection.sql("SELECT * FROM images ORDER BY key").to_arrow_reader(10_000)))

    def join() -> int:
        """As planning would: a table of what is left, in key order."""
        connection.execute("""
            CREATE TABLE compared AS
            SELECT images.* FROM images JOIN others ON others.key = images.key AND others.etag = images.etag
            ORDER BY images.key
        """)
        return count("SELECT count(*) FROM compared")

    def count(sql: str) -> int:
        number: int = connection.execute(sql).fetchall()[0][0]
        return number

    return [("load", load), ("read", read), ("join", join)]


def peak_mb() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)


if __name__ == "__main__":
    main()
